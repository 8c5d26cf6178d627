// Tensors as JSON: {shape, dtype, values}, where values is the base64 of the elements' bytes, little-endian.

const ARRAYS = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };

export function toTensor(tf, { shape, dtype, values }) {
  const bytes = Uint8Array.from(atob(values), (character) => character.charCodeAt(0));
  return tf.tensor(new ARRAYS[dtype](bytes.buffer), shape, dtype);
}

export function fromTensor(tensor) {
  const { shape, dtype } = tensor;
  const values = ARRAYS[dtype].from(tensor.dataSync());
  return { shape, dtype, values: toBase64(values.buffer) };
}

export function toBase64(buffer) {
  let text = '';
  for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
  return btoa(text);
}
