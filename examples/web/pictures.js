// Pictures: spectrograms, and the depth of each token.

const WINDOW = 256; // samples
const HOP = 64;
const RANGE = 60; // dB below the loudest point that are shown
const COLOURS = [[255, 255, 255], [198, 219, 239], [107, 174, 214], [33, 113, 181], [8, 48, 107]];
const DEPTHS = ["#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b", "#041a3d"];

/** Draw the spectrogram of samples, with colours relative to `loudest`; returns the loudest power. */
export function drawSpectrogram(canvas, samples, loudest = null) {
  const frames = Math.max(1, Math.ceil(samples.length / HOP));
  const bins = WINDOW / 2;
  const powers = [];
  for (let frame = 0; frame < frames; frame++) powers.push(powerSpectrum(samples, frame * HOP));
  const top = loudest ?? Math.max(1e-12, ...powers.map((spectrum) => Math.max(...spectrum)));
  [canvas.width, canvas.height] = [frames, bins];
  const context = canvas.getContext("2d");
  const image = context.createImageData(frames, bins);
  for (let frame = 0; frame < frames; frame++) {
    for (let bin = 0; bin < bins; bin++) {
      const decibel = 10 * Math.log10(Math.max(powers[frame][bin], 1e-20) / top);
      const place = 4 * ((bins - 1 - bin) * frames + frame);
      image.data.set([...colour(1 + decibel / RANGE), 255], place);
    }
  }
  context.putImageData(image, 0, 0);
  return top;
}

/** Draw the depth of each token as a bar. */
export function drawDepths(canvas, depth) {
  const steps = Math.max(...depth);
  [canvas.width, canvas.height] = [depth.length, 60];
  const context = canvas.getContext("2d");
  depth.forEach((value, token) => {
    context.fillStyle = DEPTHS[Math.min(value, DEPTHS.length) - 1];
    const height = (60 * value) / steps;
    context.fillRect(token, 60 - height, 1, height);
  });
}

function colour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (COLOURS.length - 1);
  const low = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[low].map((value, i) => value + (place - low) * (COLOURS[low + 1][i] - value));
}

/** Powers [WINDOW / 2] of a window whose middle is at `centre`. */
function powerSpectrum(samples, centre) {
  const real = new Float64Array(WINDOW);
  const imaginary = new Float64Array(WINDOW);
  for (let i = 0; i < WINDOW; i++) {
    const sample = samples[centre - WINDOW / 2 + i] ?? 0;
    real[i] = sample * (0.5 - 0.5 * Math.cos((2 * Math.PI * i) / WINDOW));
  }
  transform(real, imaginary);
  return Array.from({ length: WINDOW / 2 }, (_, bin) => real[bin] ** 2 + imaginary[bin] ** 2);
}

/** Fourier transform in place, of a power of two. */
function transform(real, imaginary) {
  const size = real.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [real[i], real[j]] = [real[j], real[i]]; // the imaginary part is zero
  }
  for (let length = 2; length <= size; length *= 2) {
    for (let start = 0; start < size; start += length) {
      for (let k = 0; k < length / 2; k++) {
        const angle = (-2 * Math.PI * k) / length;
        const [a, b] = [start + k, start + k + length / 2];
        const re = real[b] * Math.cos(angle) - imaginary[b] * Math.sin(angle);
        const im = real[b] * Math.sin(angle) + imaginary[b] * Math.cos(angle);
        [real[b], imaginary[b]] = [real[a] - re, imaginary[a] - im];
        [real[a], imaginary[a]] = [real[a] + re, imaginary[a] + im];
      }
    }
  }
}
