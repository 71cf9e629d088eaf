// A separator in an ONNX file that `papez export` has written, run by onnxruntime-web.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send
ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;

const FORMAT = 1; // of the files that this page reads

export class Separator {
  /** Load a model file. */
  static async load(url) {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${url}: no such file; write it with \`papez export\``);
    const bytes = new Uint8Array(await response.arrayBuffer());
    const metadata = readMetadata(bytes);
    if (!("papez_format" in metadata)) throw new Error(`${url}: \`papez export\` has not written it`);
    if (Number(metadata.papez_format) > FORMAT) throw new Error(`${url}: is newer than this page`);
    const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 3 });
    return new Separator(session, metadata);
  }

  constructor(session, metadata) {
    this.session = session;
    this.sampleRate = Number(metadata.sample_rate);
    this.numSpeakers = Number(metadata.num_spks);
  }

  /** Samples [T] to {voices: C arrays [T] that sum to the samples, depth: [L] or null}. */
  async separate(samples) {
    const mixture = new ort.Tensor("float32", samples, [1, samples.length]);
    const { estimates, depth } = await this.session.run({ mixture });
    const voices = [];
    for (let speaker = 0; speaker < this.numSpeakers; speaker++) {
      voices.push(samples.map((_, time) => estimates.data[time * this.numSpeakers + speaker]));
    }
    matchMixture(voices, samples);
    return { voices, depth: depth ? Array.from(depth.data, Number) : null };
  }
}

/**
 * Scale voices, in place, so that they sum to the mixture: one gain each, by least squares.
 * Voices that are copies of each other share their part by their levels.
 */
export function matchMixture(voices, mixture) {
  const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);
  const levels = voices.map((voice) => Math.sqrt(dot(voice, voice)) || 1);
  const gram = voices.map((a, i) => voices.map((b, j) => dot(a, b) / (levels[i] * levels[j])));
  const projection = voices.map((voice, i) => dot(voice, mixture) / levels[i]);
  // one gain for all, and for each the sign that fits the mixture: what copies keep
  const signed = levels.map((level, i) => level * Math.sign(projection[i]));
  const share = dot(signed, projection) / (dot(signed, gram.map((row) => dot(row, signed))) || 1);
  const common = signed.map((value) => value * share);
  const rows = gram.map((row, i) => [
    ...row.map((value, j) => value + (i === j ? 1e-6 : 0)), // a ridge, for copies
    projection[i] - dot(row, common),
  ]);
  const count = rows.length; // Gauss-Jordan elimination; the matrix is positive definite
  for (let i = 0; i < count; i++) {
    rows[i] = rows[i].map((value) => value / rows[i][i]);
    for (let j = 0; j < count; j++) {
      const factor = rows[j][i];
      if (j !== i) rows[j] = rows[j].map((value, k) => value - factor * rows[i][k]);
    }
  }
  voices.forEach((voice, i) => {
    const gain = (common[i] + rows[i][count]) / levels[i];
    for (let time = 0; time < voice.length; time++) voice[time] *= gain;
  });
}

/** The metadata of an ONNX file: the entries of field 14 of its protocol buffer. */
function readMetadata(bytes) {
  const metadata = {};
  try {
    for (const [field, content] of fields(bytes)) {
      if (field !== 14) continue;
      const [key, value] = [1, 2].map((wanted) => {
        const found = [...fields(content)].find(([number]) => number === wanted);
        return found ? new TextDecoder().decode(found[1]) : "";
      });
      metadata[key] = value;
    }
  } catch {
    return {}; // another kind of file
  }
  return metadata;
}

/** Number and content of the fields of a protocol buffer that have a length. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= bytes.length) throw new Error("truncated");
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const kind = tag & 7;
    if (kind === 0) varint();
    else if (kind === 2) {
      const size = varint();
      if (at + size > bytes.length) throw new Error("truncated");
      yield [Math.floor(tag / 8), bytes.subarray(at, at + size)];
      at += size;
    } else throw new Error("not a model");
  }
}
