// Checking the form, and sending it.

/** Say what is wrong with a control, or with "" that nothing is. */
function wrong(control, words) {
  const id = `${control.id}-wrong`;
  let line = $(id);
  if (!line && words) {
    line = make("p", { id, className: "wrong" });
    control.closest(".setting, .field, div").append(line);
  }
  if (!line) return;
  line.textContent = words;
  line.hidden = !words;
  if (words) control.ariaInvalid = "true";
  else control.removeAttribute("aria-invalid");
  describe(control, id, Boolean(words));
}

function describe(control, id, is) {
  const ids = new Set((control.getAttribute("aria-describedby") ?? "").split(" ").filter(Boolean));
  if (is) ids.add(id);
  else ids.delete(id);
  if (ids.size) control.setAttribute("aria-describedby", [...ids].join(" "));
  else control.removeAttribute("aria-describedby");
}

function focusOn(control) {
  if ($("settings").contains(control)) $("settings").open = true;
  control.focus();
}

/** Mark what is wrong; whether nothing is. */
function check() {
  const found = [];
  const say = (id, words) => {
    wrong($(id), words);
    if (words) found.push($(id));
  };
  const [picture] = $("image").files;
  say("image", picture ? "" : "Choose a picture of the person.");
  const mode = soundMode();
  const control = { file: "audio", record: "record", text: "tts-text" }[mode];
  const ask = {
    file: "Choose a sound file.",
    record: "Record what is to be said.",
    text: "Write what is to be spoken.",
  }[mode];
  const has = mode === "text" ? $("tts-text").value.trim() : sounds[mode] || (mode === "file" && isVideo());
  const speaks = mode === "live";
  const listens = page.people.length > 1 && mode !== "text" && $("audio-2").files.length;
  if (!speaks) say(control, has || listens ? "" : ask);
  say("prompt", $("prompt").value.trim() ? "" : "Say what is seen, in a sentence.");
  for (const id of Object.values(SETTINGS)) {
    const { type, min, max, step, validity } = $(id);
    if (type !== "number" || $(id).closest(".setting").hidden) continue;
    const kind = step > 1 ? `a multiple of ${step}` : step === "any" ? "a number" : "a whole number";
    const range = min && max ? ` from ${min} to ${max}` : min ? `, ${min} or more` : "";
    say(id, validity.valid ? "" : `Give ${kind}${range}.`);
  }
  const most = page.model?.capabilities.limits?.max_upload_bytes;
  const files = entries().filter(([, value]) => value instanceof Blob);
  const bytes = files.reduce((sum, [, file]) => sum + file.size, 0);
  if (picture && most && bytes > most)
    say("image", `The files have ${megabytes(bytes)}; this server takes ${megabytes(most)}.`);
  if (found.length) focusOn(found[0]);
  return !found.length;
}

/** What the form asks for, as entries of a multipart body. Settings as the server has them are left to it. */
function entries() {
  const found = [["input_reference", $("image").files[0]], ...peopleEntries(), ["prompt", $("prompt").value.trim()]];
  for (const [field, id] of Object.entries(SETTINGS)) {
    const about = page.model?.capabilities.settings[field];
    if (!about || $(id).closest(".setting").hidden) continue;
    const value = $(id).type === "checkbox" ? String($(id).checked) : $(id).value;
    const blank = value === "" && field !== "negative_prompt";
    if (!blank && (field === "seed" || value !== String(about.default ?? ""))) found.push([field, value]);
  }
  return found.filter(([, value]) => value !== undefined);
}

/** Whether a video can be asked for now. */
const canBegin = () => page.model && !page.sending && !page.live && !["offline", "draining"].includes(state());

/** Put into an empty form what a video was made of, so that it can be changed a little. */
function fillForm(formEntries) {
  const values = new Map(formEntries);
  for (const [field, id] of Object.entries(CONTROLS)) {
    const [control, value] = [$(id), values.get(field)];
    if (!control || value === undefined || field === "seed") continue;
    if (value instanceof File) {
      const files = new DataTransfer();
      files.items.add(value);
      control.files = files.files;
    } else if (control.type === "checkbox") control.checked = value === "true";
    else control.value = value;
  }
  sounds.file = $("audio").files[0] ?? null;
  if (values.has("tts_text")) $("sound-text").checked = true;
  choosePicture();
  showSound();
  matchPreset();
}

function submit() {
  if (!canBegin() || !check()) return;
  if (soundMode() === "live") beginLive();
  else begin(entries());
}

function begin(formEntries) {
  tell("");
  const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
  leave();
  page.video = null;
  resetPlayer();
  paintWaiting(formEntries);
  send({ entries: formEntries, key, tries: 0, share: 0, xhr: null });
  const { top } = $("stage").getBoundingClientRect();
  if (top < 0 || top > innerHeight * 0.7) $("stage").scrollIntoView({ block: "start" });
}

/** Send a video's inputs. A lost connection sends them again under the same key, so that no video is made twice. */
function send(sending) {
  const body = new FormData();
  for (const [name, value] of sending.entries) body.append(name, value);
  const xhr = new XMLHttpRequest();
  Object.assign(sending, { xhr, share: 0, tries: sending.tries + 1 });
  page.sending = sending;
  xhr.open("POST", "/v1/videos");
  xhr.setRequestHeader("Idempotency-Key", sending.key);
  xhr.responseType = "json";
  xhr.upload.onprogress = ({ loaded, total }) => {
    sending.share = loaded / total;
    render();
  };
  xhr.onload = () => {
    const refusal = xhr.status === 200 ? null : noticeRefusal(new Refusal(xhr.status, xhr.response));
    if (page.locked) return; // it goes on after signing in
    if (refusal?.code === "idempotency_in_progress") return void setTimeout(send, 1000, sending);
    page.sending = null;
    if (refusal) return refused(refusal);
    keepInputs(xhr.response.id, sending.entries);
    show(xhr.response);
    list();
  };
  xhr.onerror = () => {
    if (sending.tries >= 4) {
      page.sending = null;
      tell("The server broke the connection off while the files were sent. Try smaller ones.");
    }
    page.offline = true;
    render();
    lookNow();
  };
  xhr.send(body);
  render();
}

/** Tell what was refused: at its control where there is one. */
function refused(fault) {
  let words = fault instanceof Refusal ? fault.message : "The server does not answer. Try again in a moment.";
  const speaker = /^speakers\.(\d+)\.audio/.exec(fault.param ?? "");
  const id = speaker
    ? speaker[1] === "1"
      ? "audio"
      : `audio-${speaker[1]}`
    : CONTROLS[(fault.param ?? "").split(/[.[]/)[0]];
  const control = id === "audio" && soundMode() === "record" ? $("record") : id && $(id);
  if (control && ($("settings").contains(control) || control.checkVisibility())) {
    // The field's name, with which the message begins, is the request's; here it stands at the control.
    if (words.startsWith(`${fault.param}: `)) words = sentence(words.slice(fault.param.length + 2));
    wrong(control, words);
    focusOn(control);
  } else if (!page.locked) tell(words);
  render();
}

function tell(words) {
  page.problem = words;
  render();
  if (words) $("error").scrollIntoView({ block: "nearest" });
}
