// The page: a recording comes in, its voices are separated, played and shown.

import { drawDepths, drawSpectrogram } from "./pictures.js";
import { Separator } from "./separator.js";

const MODEL = "model.onnx";
const LONGEST = 60; // seconds that are separated at once

const $ = (id) => document.getElementById(id);
let separator = null;

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

/** Decode a recording to mono samples at the model's rate. */
async function decode(bytes) {
  const rate = separator.sampleRate;
  const audio = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
  if (audio.duration > LONGEST) throw new Error(`longer than ${LONGEST} s: cut it first`);
  const samples = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    audio.getChannelData(channel).forEach((value, time) => {
      samples[time] += value / audio.numberOfChannels;
    });
  }
  return samples;
}

async function separateRecording(bytes, name) {
  document.body.dataset.state = "busy";
  try {
    say(`Separating ${name} ...`);
    await new Promise((resolve) => setTimeout(resolve, 30)); // let the page be drawn
    const samples = await decode(bytes);
    const started = performance.now();
    const result = await separator.separate(samples);
    const seconds = (performance.now() - started) / 1000;
    show(samples, result);
    const duration = samples.length / separator.sampleRate;
    say(`${name}: ${duration.toFixed(1)} s of audio, separated in ${seconds.toFixed(2)} s.`);
    window.papez = { samples, ...result }; // for tests and the curious
    document.body.dataset.state = "done";
  } catch (error) {
    say(`${name}: cannot be separated: ${error.message}`, true);
    document.body.dataset.state = "failed";
  }
}

function show(samples, { voices, depth }) {
  $("result").hidden = false;
  const loudest = drawSpectrogram($("mixture"), samples);
  $("mixture-audio").src = wavUrl(samples);
  $("depth-part").hidden = !depth;
  if (depth) {
    drawDepths($("depth"), depth);
    const mean = depth.reduce((sum, value) => sum + value, 0) / depth.length;
    $("depth-caption").textContent =
      `Steps that each of ${depth.length} tokens ran: mean ${mean.toFixed(2)}, ` +
      `at most ${Math.max(...depth)}.`;
  }
  $("voices").replaceChildren(...voices.map((voice, index) => {
    const part = document.createElement("div");
    part.innerHTML = "<h2></h2><figure><canvas class=spectrogram></canvas>"
      + "<audio controls></audio></figure>";
    part.querySelector("h2").textContent = `Voice ${index + 1}`;
    drawSpectrogram(part.querySelector("canvas"), voice, loudest);
    part.querySelector("audio").src = wavUrl(voice);
    return part;
  }));
}

/** The URL of samples as a 16-bit wav. */
function wavUrl(samples) {
  const peak = samples.reduce((top, value) => Math.max(top, Math.abs(value)), 1);
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, i) =>
    view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, separator.sampleRate, true);
  view.setUint32(28, 2 * separator.sampleRate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, i) => view.setInt16(44 + 2 * i, Math.round((32767 * value) / peak), true));
  return URL.createObjectURL(new Blob([view.buffer], { type: "audio/wav" }));
}

/** Record until the button is pressed again; the bytes of the recording. */
async function record(button) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(stream);
  const chunks = [];
  recorder.ondataavailable = (event) => chunks.push(event.data);
  const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.start();
  const label = button.textContent;
  button.textContent = "Stop";
  const pressed = new Promise((resolve) => button.addEventListener("click", resolve, { once: true }));
  await Promise.race([pressed, new Promise((resolve) => setTimeout(resolve, 1000 * LONGEST))]);
  recorder.stop();
  await stopped;
  stream.getTracks().forEach((track) => track.stop());
  button.textContent = label;
  return new Blob(chunks).arrayBuffer();
}

let recording = false;
$("record").addEventListener("click", async () => {
  if (recording || !separator) return;
  recording = true;
  try {
    await separateRecording(await record($("record")), "the recording");
  } catch (error) {
    say(`The microphone cannot be used: ${error.message}`, true);
  }
  recording = false;
});
$("file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file && separator) await separateRecording(await file.arrayBuffer(), file.name);
});

try {
  separator = await Separator.load(MODEL);
  say(`Ready: ${separator.numSpeakers} voices at ${separator.sampleRate} Hz.`);
  document.body.dataset.state = "ready";
} catch (error) {
  say(error.message, true);
  document.body.dataset.state = "failed";
}
