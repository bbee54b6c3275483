// The picture answers the microphone while one speaks. `page.live` is {socket, pieces, listens, latency, ...} meanwhile.

const LIVE_FRAMES = 24; // of a clip, where the form has the server's own: shorter ones come sooner
const LATE = 3; // seconds that the player may be behind what has come
const NOT_LIVE = /^(input_reference|audio_|speakers|tts_|bbox|num_clip)/;

function liveText() {
  const { listens, latency } = page.live;
  if (!listens) return "The model is getting ready";
  return latency ? `Speak; the picture follows after ${decimals(latency)} s` : "Speak";
}

async function beginLive() {
  tell("");
  leave();
  page.video = null;
  resetPlayer();
  const [picture] = $("image").files;
  paintWaiting([["input_reference", picture]]);
  const going = { socket: null, microphone: null, context: null, pieces: [], listens: false, latency: 0 };
  page.live = going;
  render();
  try {
    going.microphone = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
    going.context = new AudioContext({ sampleRate: 16000 });
    await going.context.audioWorklet.addModule("/static/microphone.js");
  } catch {
    endLive();
    return wrong($("sound-live"), "The microphone is not to be had. Allow it in the browser, or give a sound file.");
  }
  const request = await liveRequest(picture);
  if (page.live !== going) return;
  const socket = new WebSocket(new URL("/v1/live", location.href.replace(/^http/, "ws")));
  going.socket = socket;
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send(JSON.stringify(request));
  socket.onmessage = ({ data }) => {
    if (page.live !== going) return;
    if (typeof data === "string") heardLive(going, JSON.parse(data));
    else {
      going.pieces.push(new Uint8Array(data));
      appendLive(going);
    }
  };
  socket.onclose = () => {
    if (page.live !== going) return;
    const began = going.listens;
    endLive();
    if (!began && !page.problem) tell("The server broke the connection off. Try again in a moment.");
  };
}

/** What the form asks for, as JSON. */
async function liveRequest(picture) {
  const request = {};
  for (const [field, value] of entries()) {
    if (NOT_LIVE.test(field)) continue;
    const { type } = $(CONTROLS[field]);
    request[field] = type === "number" ? Number(value) : type === "checkbox" ? value === "true" : value;
  }
  request.infer_frames ??= Math.min(LIVE_FRAMES, page.model.capabilities.settings.infer_frames?.default ?? LIVE_FRAMES);
  request.input_reference = await new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(picture);
  });
  return request;
}

function heardLive(going, { event, error, ...what }) {
  if (error) tell(sentence(error.message));
  if (event === "listening") speakLive(going);
  if (event === "report") going.latency = what.report.latency;
  if (event === "playable") {
    const source = new (window.ManagedMediaSource ?? window.MediaSource)();
    going.source = openSource(source).then(() => {
      source.duration = Infinity;
      return source.addSourceBuffer(what.type);
    });
  }
  render();
}

function speakLive(going) {
  const { context, microphone, socket } = going;
  going.listens = true;
  const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => socket.readyState === WebSocket.OPEN && socket.send(data);
  context.createMediaStreamSource(microphone).connect(node);
  context.resume();
}

/** Append what came, one piece after the other; what was seen long ago goes. */
async function appendLive(going) {
  if (going.appending) return;
  going.appending = true;
  const player = $("player");
  try {
    const buffer = await going.source;
    while (going.pieces.length && page.live === going) {
      await append(buffer, going.pieces.shift());
      if (!buffer.buffered.length) continue;
      const end = buffer.buffered.end(buffer.buffered.length - 1);
      if (end - player.currentTime > LATE) player.currentTime = end - 1; // it had stood still
      if (page.playable) continue;
      page.playable = true;
      player.muted = true; // one hears oneself
      render();
      play();
    }
  } catch (fault) {
    if (page.live === going) tell("The browser cannot play the video.");
  }
  going.appending = false;
}

function endLive() {
  const { socket, microphone, context } = page.live;
  page.live = null;
  socket?.close();
  for (const track of microphone?.getTracks() ?? []) track.stop();
  context?.close();
  $("player").muted = false;
  render();
}
