// What is known becomes what is seen.

function state() {
  const { video } = page;
  if (page.locked) return "locked";
  if (page.offline) return "offline";
  if (page.server?.state === "draining") return "draining";
  if (page.live) return "live";
  if (page.sending) return "uploading";
  if (video?.status === "in_progress") return page.playable ? "playing" : "running";
  if (video) return video.status;
  return page.server?.state === "ready" && page.model ? "idle" : "loading";
}

function phase({ phase: name, clip, clips }) {
  const which = clips > 1 && clip ? `clip ${clip} of ${clips}` : "the video";
  return (
    {
      loading: "The models are loading",
      encoding: clip > 1 ? "Preparing the next clip" : "Picture, sound and prompt are read",
      denoising: `Making ${which}`,
      decoding: `Finishing ${which}`,
      writing: `Writing ${which}`,
    }[name] ?? "It begins"
  );
}

function statusText(now) {
  const { video, server } = page;
  switch (now) {
    case "locked":
      return "";
    case "offline":
      return "The server does not answer. What it accepted is kept; this page goes on when it is back.";
    case "draining":
      return "The server is about to stop. Your videos are kept, and go on when it is back.";
    case "loading":
      return "The models are loading. You can begin already.";
    case "idle":
      return "";
    case "live":
      return liveText();
    case "uploading":
      return "Sending your files";
    case "queued":
      if (server?.state === "loading") return "The models are loading; then your video is made";
      return video.queue_position > 1 ? "Your video waits for its turn" : "Your video is next";
    case "running":
      return phase(video);
    case "playing":
      return `${phase(video)}; what is done can be watched`;
    case "completed":
      return "Your video is ready";
    default:
      return video.error?.code === "cancelled" ? "Stopped" : "This video could not be made";
  }
}

function render() {
  const now = state();
  const { video, sending, server } = page;
  document.body.dataset.state = now;
  $("login").hidden = !page.locked;
  $("studio").hidden = page.locked || !page.model;
  $("sign-out").hidden = page.locked || !localStorage.getItem("signed-in");
  write("server", server?.state === "ready" ? server.model : "");

  const going = Boolean(page.live || sending || (video && !ended(video)));
  write("status", statusText(now));
  write(
    "error",
    page.problem || (video?.status === "failed" && video.error?.code !== "cancelled" ? video.error.message : ""),
  );
  // Not `disabled`: the focus would be lost.
  for (const id of ["make", "again"]) $(id).ariaDisabled = String(!canBegin());

  const share = sending ? 100 * sending.share : (video?.progress ?? 0);
  $("work").hidden = !going || Boolean(page.live);
  $("progress").value = share;
  const waits = !sending && video?.status === "queued" && video.queue_position > 1 ? video.queue_position - 1 : 0;
  write("queue-place", waits ? `${waits} ${waits > 1 ? "videos" : "video"} before yours` : "");
  const runs = !sending && video?.status === "in_progress";
  write(
    "clip-count",
    runs && video.clip ? `Clip ${video.clip} of ${video.clips}, step ${video.step} of ${video.steps}` : "",
  );
  write("eta", !sending && video && going && video.eta_seconds !== null ? `About ${duration(video.eta_seconds)} left` : "");
  document.title = going && !page.live ? `${Math.round(share)} % · Make a picture talk` : "Make a picture talk";

  const leftAlone = $("cancel") === document.activeElement && !going;
  $("cancel").hidden = !going;
  $("player").hidden = !page.playable;
  $("waiting").hidden = page.playable;
  $("screen").style.aspectRatio = video ? video.size.replace("x", " / ") : "";
  const done = video?.status === "completed";
  $("download").hidden = !done;
  if (done) Object.assign($("download"), { href: path(video.id, "content"), download: `${video.id}.mp4` });
  else $("download").removeAttribute("href");
  $("again").hidden = !video || !ended(video) || !page.inputs;
  if (leftAlone) [$("player"), $("again"), $("make")].find((control) => !control.hidden).focus();
  write("about", video ? aboutVideo(video) : "");
  const notices = video?.notices ?? [];
  if ($("notices").children.length !== notices.length) {
    $("notices").replaceChildren(...notices.map((text) => make("li", { textContent: text })));
  }
}

function aboutVideo({ seconds, size, seed, status, started_at: from, completed_at: to }) {
  const took = status === "completed" && from ? [`made in ${duration(Math.max(1, to - from))}`] : [];
  return [`${seconds} s`, size.replace("x", " × "), `seed ${seed}`, ...took].join(" · ");
}

/** Set a text where it changed, so that it is read out once. */
function write(id, words) {
  if ($(id).textContent !== words) $(id).textContent = words;
}

function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const sentence = (words) => words[0].toUpperCase() + words.slice(1) + (/[.)]$/.test(words) ? "" : ".");
const brief = (words) => (words.length > 80 ? `${words.slice(0, 79)}…` : words);
const decimals = (value) => String(Math.round(value * 10) / 10);
const megabytes = (bytes) => `${Math.ceil(bytes / 1e6)} MB`;

function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
