// What the page shows: the curve of the losses, and the digits.

const SHOWN = 60;

// Draws the losses from left to right, zero at the bottom.
export function drawCurve(canvas, losses) {
  const pen = canvas.getContext('2d');
  const { width, height } = canvas;
  const highest = Math.max(...losses.slice(0, 5), 0.1);
  pen.clearRect(0, 0, width, height);
  pen.strokeStyle = '#1a5fb4';
  pen.lineWidth = 2;
  pen.beginPath();
  losses.forEach((loss, index) => {
    const x = (width * (index + 0.5)) / Math.max(losses.length, 100);
    pen.lineTo(x, height - (0.95 * height * Math.min(loss, highest)) / highest);
  });
  pen.stroke();
}

// Fills an element with pictures of digits, 8 × 8 pixels each.
export function showDigits(element, images) {
  for (const image of images.slice(0, SHOWN)) {
    const canvas = Object.assign(document.createElement('canvas'), { width: 8, height: 8 });
    const pen = canvas.getContext('2d');
    image.forEach((value, index) => {
      pen.fillStyle = `rgb(0 0 0 / ${value})`;
      pen.fillRect(index % 8, Math.floor(index / 8), 1, 1);
    });
    const figure = document.createElement('figure');
    const caption = Object.assign(document.createElement('figcaption'), { textContent: '?' });
    figure.append(canvas, caption);
    element.append(figure);
  }
}

// Says under each digit what it was taken for.
export function showGuesses(element, guesses, labels) {
  element.querySelectorAll('figcaption').forEach((caption, index) => {
    caption.textContent = guesses[index];
    caption.className = guesses[index] === labels[index] ? 'right' : 'wrong';
  });
}
