// The page of the server: one module over the routes that every client has, and nothing from elsewhere. Its parts are
// served one behind the other, as they are listed in serve/http/page_files.py.
//
// `page` is what is known. `render` writes it into the document and may be called at any time; what a person types
// stays in the controls. Everything that lasts is the server's: videos, queue and progress. This browser keeps the
// inputs of the latest videos, so that one can be made again with another seed.

const $ = (id) => document.getElementById(id);
const FPS = 25;
const KEPT_INPUTS = 20; // videos whose inputs this browser keeps

const page = {
  locked: false,
  offline: false,
  server: null, // the body of /health
  model: null, // the model's entry in /v1/models
  video: null, // the one that is shown
  inputs: null, // of the video that is shown: its form's entries, where this browser has them
  playable: false, // clips of it can be played
  live: null, // what is going on live: see live.js
  sending: null, // {entries, key, tries, share, xhr}: a video on its way to the server
  videos: [], // mine, the newest first
  older: false, // there are more
  people: [{ box: null, drawn: false }], // box: top, left, bottom, right as shares of the picture
  problem: "",
};

// Fields of a request by the controls that set them. Help, defaults and ranges are the server's.
const SETTINGS = {
  size_bucket: "size-bucket",
  num_inference_steps: "steps",
  guidance_scale: "guidance",
  audio_guidance_scale: "audio-guidance",
  flow_shift: "shift",
  sample_solver: "solver",
  seed: "seed",
  num_clip: "num-clip",
  infer_frames: "infer-frames",
  dubbing_noise_strength: "dubbing-noise",
  video_end: "video-end",
  init_first_frame: "init-first-frame",
  negative_prompt: "negative-prompt",
};
const DUBBING = ["dubbing_noise_strength", "video_end"]; // only with a video
const CONTROLS = {
  ...SETTINGS,
  input_reference: "image",
  prompt: "prompt",
  audio_reference: "audio",
  audio_reference_2: "audio-2",
  tts_text: "tts-text",
  tts_voice: "tts-voice",
  tts_voice_2: "tts-voice-2",
};
