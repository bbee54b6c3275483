// Signing in, and what controls do.

async function signIn(event) {
  event.preventDefault();
  const key = $("api-key");
  if (!key.value) return (wrong(key, "Give the key."), key.focus());
  const body = JSON.stringify({ api_key: key.value });
  try {
    const answer = await fetch("/login", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (!answer.ok) throw new Refusal(answer.status, await answer.json().catch(() => null));
  } catch (fault) {
    wrong(key, fault instanceof Refusal ? fault.message : "The server does not answer. Try again in a moment.");
    return key.focus();
  }
  key.value = "";
  wrong(key, "");
  localStorage.setItem("signed-in", "yes");
  page.locked = false;
  await arrive();
  $("image").focus();
}

async function signOut() {
  await call("/login", { method: "DELETE" });
  localStorage.removeItem("signed-in");
  await dropAllInputs();
  location.reload();
}

function listenToControls() {
  $("login").addEventListener("submit", signIn);
  $("sign-out").addEventListener("click", signOut);
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  $("form").addEventListener("input", ({ target }) => target.id && wrong(target, ""));
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    submit();
  });
  $("image").addEventListener("change", choosePicture);
  $("audio").addEventListener("change", () => {
    sounds.file = $("audio").files[0] ?? null;
    showSound();
  });
  for (const radio of document.querySelectorAll("input[name=sound]")) radio.addEventListener("change", showSound);
  $("audio-preview").addEventListener("loadedmetadata", showCosts);
  $("record").addEventListener("click", record);
  $("tts-text").addEventListener("input", () => {
    sounds.text = null;
    showSound();
  });
  $("tts-try").addEventListener("click", listen);
  $("enhance").addEventListener("click", enhance);
  for (const id of ["steps", "size-bucket", "guidance", "infer-frames", "num-clip"])
    $(id).addEventListener("input", matchPreset);
  $("add-person").addEventListener("click", () => {
    page.people.push({ box: null, drawn: false });
    showSound();
    $(`audio-${page.people.length}`).focus();
  });
  $("boxes").addEventListener("pointerdown", drag);
  for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, drop);
  $("cancel").addEventListener("click", stop);
  $("again").addEventListener("click", () => canBegin() && begin(page.inputs.filter(([name]) => name !== "seed")));
  $("more").addEventListener("click", () => list(page.videos.at(-1).id));
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder)
    $("sound-record").closest("label").hidden = true;
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorklet || !(window.ManagedMediaSource ?? window.MediaSource))
    $("sound-live").closest("label").hidden = true;
}

listenToControls();
look();
