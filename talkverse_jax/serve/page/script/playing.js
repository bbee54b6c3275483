// The video that is shown: following and playing it.

const ended = ({ status }) => status === "completed" || status === "failed";
const path = (id, route) => `/v1/videos/${id}/${route}`;

let events = null; // the EventSource of the video that is shown
let streaming = null; // the AbortController of its stream

/** Show a video of mine, and follow it where it goes on. */
async function show(video) {
  leave();
  resetPlayer();
  page.video = video;
  page.inputs = null;
  page.problem = "";
  if (!page.videos.some(({ id }) => id === video.id)) page.videos.unshift(video);
  renderVideos();
  settle();
  render();
  page.inputs = await inputsOf(video.id);
  if (page.video?.id !== video.id) return;
  if (page.inputs) {
    paintWaiting(page.inputs);
    if (!$("image").files.length && !$("prompt").value) fillForm(page.inputs);
  }
  render();
}

function leave() {
  events?.close();
  streaming?.abort();
  events = streaming = null;
}

/** Do what the video that is shown asks for as it is now. */
function settle() {
  const { video } = page;
  if (!ended(video) && !events) follow(video.id);
  if (video.status === "completed") playContent(video);
  else if (video.clips_done > 0 && !streaming) playStream(video);
}

/** Ask for the video that is shown anew: events were lost, or the server was away. */
async function refresh(id) {
  try {
    const video = await json(`/v1/videos/${id}`);
    if (page.video?.id !== id) return;
    page.video = video;
    settle();
  } catch (fault) {
    if (fault.code === "video_not_found") forget(id);
  }
  render();
}

function follow(id) {
  const source = new EventSource(path(id, "events"));
  events = source;
  const on = (kind, act) =>
    source.addEventListener(kind, ({ data }) => {
      if (events !== source || page.video?.id !== id) return;
      act(JSON.parse(data));
      render();
    });
  on("progress", (now) => Object.assign(page.video, now));
  on("queued", (now) => Object.assign(page.video, now));
  on("clip", ({ clip, seconds }) => {
    page.video.clips_done = Math.max(clip, page.video.clips_done);
    page.video.ready_seconds = seconds;
    settle();
  });
  on("notice", ({ message }) => {
    if (!page.video.notices.includes(message)) page.video.notices.push(message);
  });
  on("server", ({ state }) => (page.server.state = state));
  on("deleted", () => forget(id));
  for (const last of ["completed", "failed"]) {
    on(last, (video) => {
      page.video = video;
      source.close();
      settle();
      list();
    });
  }
  source.onerror = async () => {
    lookNow();
    if (source.readyState !== EventSource.CLOSED || events !== source) return; // else it connects again by itself
    await sleep(1500);
    if (events !== source) return;
    events = null;
    refresh(id);
  };
}

function resetPlayer() {
  page.playable = false;
  const player = $("player");
  player.pause();
  player.removeAttribute("src");
  player.load();
}

function play() {
  $("player")
    .play()
    .catch(() => {}); // a browser may want a click first; the controls are there
}

/** Play a video from its first clip on, while the others are made. */
async function playStream(video) {
  const Source = window.ManagedMediaSource ?? window.MediaSource;
  const going = new AbortController();
  const { signal } = going;
  streaming = going;
  if (!Source) return; // the finished video comes in the end
  let source = null;
  let taken = 0; // bytes
  for (let first = true; !signal.aborted; first = false) {
    try {
      if (!first) {
        // It broke off, or ended: the server stops, or the job came to its end.
        await sleep(500);
        const { status } = await json(`/v1/videos/${video.id}`, { signal });
        if (status === "completed") return;
        if (status === "failed" && source) return void (source.readyState === "open" && source.endOfStream());
      }
      const answer = await fetch(path(video.id, "stream"), { signal });
      if (!answer.ok) continue;
      const type = answer.headers.get("Content-Type");
      if (!source) {
        if (!Source.isTypeSupported(type)) return;
        source = await openSource(new Source());
        source.addSourceBuffer(type);
        source.duration = video.num_frames / FPS;
      }
      let skip = taken; // a stream begins at the beginning again
      const reader = answer.body.getReader();
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        const bytes = piece.value.subarray(Math.min(skip, piece.value.length));
        skip -= piece.value.length - bytes.length;
        if (!bytes.length) continue;
        await append(source.sourceBuffers[0], bytes);
        taken += bytes.length;
        if (source.sourceBuffers[0].buffered.length) beginToPlay();
      }
    } catch (fault) {
      if (signal.aborted || fault.name === "InvalidStateError") return;
      lookNow();
    }
  }
}

function beginToPlay() {
  if (page.playable) return;
  page.playable = true;
  render();
  if (!ended(page.video)) play();
}

async function openSource(source) {
  const player = $("player");
  player.disableRemotePlayback = true; // Safari gives a source of its own only so
  player.src = URL.createObjectURL(source);
  await new Promise((done) => source.addEventListener("sourceopen", done, { once: true }));
  URL.revokeObjectURL(player.src);
  return source;
}

async function append(buffer, bytes) {
  const settled = () => new Promise((done) => buffer.addEventListener("updateend", done, { once: true }));
  try {
    buffer.appendBuffer(bytes);
  } catch (fault) {
    if (fault.name !== "QuotaExceededError") throw fault;
    // A long video does not fit: what was seen goes.
    await sleep(1000);
    const seen = $("player").currentTime - 20;
    if (seen > 0) {
      buffer.remove(0, seen);
      await settled();
    }
    return append(buffer, bytes);
  }
  await settled();
}

/** Go over to the finished video at the same second; the last picture stays in front until it is there. */
function playContent(video) {
  const player = $("player");
  const url = new URL(path(video.id, "content"), location);
  if (player.src === url.href) return;
  const at = page.playable ? player.currentTime : 0;
  const goes = page.playable && !player.paused && !player.ended;
  if (page.playable && player.videoWidth) {
    const veil = $("veil");
    Object.assign(veil, { width: player.videoWidth, height: player.videoHeight, hidden: false });
    veil.getContext("2d").drawImage(player, 0, 0);
  }
  streaming?.abort();
  player.src = url.href;
  if (at) player.currentTime = at; // it begins there
  const unveil = () => ($("veil").hidden = true);
  for (const kind of [at ? "seeked" : "loadeddata", "error"]) player.addEventListener(kind, unveil, { once: true });
  if (goes) play();
  page.playable = true;
}

/** While nothing can be played yet: the picture that was chosen. */
function paintWaiting(formEntries) {
  const picture = formEntries.find(([name]) => name === "input_reference")?.[1];
  const waiting = $("waiting");
  if (waiting.firstChild?.src) URL.revokeObjectURL(waiting.firstChild.src);
  waiting.replaceChildren();
  if (picture?.type.startsWith("image/")) waiting.append(make("img", { src: URL.createObjectURL(picture), alt: "" }));
}

async function stop() {
  if (page.live) return endLive();
  const { sending, video } = page;
  if (sending) {
    page.sending = null;
    sending.xhr.abort();
    setTimeout(list, 1000); // the server may have had it already
    return render();
  }
  await busy($("cancel"), async () => {
    try {
      page.video = await json(path(video.id, "cancel"), { method: "POST" });
    } catch (fault) {
      if (fault.code !== "video_ended") throw fault; // it was quicker
      return refresh(video.id);
    }
    settle();
    list();
  });
}
