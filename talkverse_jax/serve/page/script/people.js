// Several people in a picture.

const BOXES =
  "Each person has a box on the picture. Draw it with the pointer, or go to it with Tab: arrow keys move it, Shift " +
  "and arrow keys change its size.";

function renderPeople() {
  const several = page.people.length > 1;
  const texts = soundMode() === "text" && page.people.length === 2;
  const others = $("others");
  while (others.children.length > page.people.length - 1) others.lastChild.remove();
  for (let person = others.children.length + 2; person <= page.people.length; person++) {
    const id = `audio-${person}`;
    const file = make("input", { type: "file", id, accept: "audio/*,video/*" });
    const label = make("label", { htmlFor: id, textContent: `Sound of person ${person}` });
    const help = make("p", { className: "help", textContent: "Without a file this person listens." });
    others.append(
      make(
        "div",
        { className: "person" },
        label,
        file,
        help,
        make("p", { className: "wrong", id: `${id}-wrong`, hidden: true }),
      ),
    );
  }
  if (several) {
    const remove = $("remove-person") ?? make("button", { type: "button", id: "remove-person", className: "plain" });
    remove.textContent = `Remove person ${page.people.length}`;
    remove.onclick = () => {
      page.people.pop();
      showSound();
      $("add-person").focus();
    };
    others.lastChild.append(remove);
  }
  for (const row of others.children) row.hidden = texts;
  const most = page.model?.capabilities.speakers ?? 1;
  write("people-help", several ? BOXES : `Up to ${most} people of a picture can speak.`);
  $("turns").hidden = page.people.length !== 2;
  $("add-person").hidden = page.people.length >= most;
  renderBoxes();
}

/** The box of each person: until it is drawn, an equal part of the picture's width. */
function boxOf(index) {
  const { box } = page.people[index];
  return box ?? [0.02, (index + 0.04) / page.people.length, 0.98, (index + 0.96) / page.people.length];
}

function setBox(index, [top, left, bottom, right]) {
  const share = (value) => Math.max(0, Math.min(1, value));
  page.people[index] = { box: [share(top), share(left), share(bottom), share(right)], drawn: true };
  renderBoxes();
}

function renderBoxes() {
  const frame = $("boxes");
  frame.hidden = page.people.length < 2 || $("picture").hidden;
  while (frame.children.length > page.people.length) frame.lastChild.remove();
  page.people.forEach((_, index) => {
    const [top, left, bottom, right] = boxOf(index);
    const box = frame.children[index] ?? newBox(index);
    const percent = (share) => `${Math.round(share * 1000) / 10}%`;
    Object.assign(box.style, {
      top: percent(top),
      left: percent(left),
      width: percent(right - left),
      height: percent(bottom - top),
    });
    const across = `from ${percent(left)} to ${percent(right)} across`;
    box.ariaLabel = `Box of person ${index + 1}: ${across}, ${percent(top)} to ${percent(bottom)} down`;
  });
}

function newBox(index) {
  const box = make(
    "button",
    { type: "button", className: "box" },
    make("b", { textContent: String(index + 1) }),
    make("i"),
  );
  box.dataset.person = index;
  box.setAttribute("aria-describedby", "people-help");
  box.addEventListener("keydown", (event) => {
    const step = 0.02;
    const [down, across] = {
      ArrowUp: [-step, 0],
      ArrowDown: [step, 0],
      ArrowLeft: [0, -step],
      ArrowRight: [0, step],
    }[event.key] ?? [0, 0];
    if (!down && !across) return;
    event.preventDefault();
    const [top, left, bottom, right] = boxOf(index);
    if (event.shiftKey)
      setBox(index, [top, left, Math.max(top + step, bottom + down), Math.max(left + step, right + across)]);
    else moveBox(index, [top, left, bottom, right], down, across);
  });
  $("boxes").append(box);
  return box;
}

function moveBox(index, [top, left, bottom, right], down, across) {
  down = Math.max(-top, Math.min(1 - bottom, down));
  across = Math.max(-left, Math.min(1 - right, across));
  setBox(index, [top + down, left + across, bottom + down, right + across]);
}

let lastPerson = 0; // whose box a new one replaces

/** A box is moved, its corner pulled, or a new one drawn, with mouse, pen or finger. */
function drag(event) {
  const frame = $("boxes");
  const area = frame.getBoundingClientRect();
  const at = ({ clientX, clientY }) => [(clientY - area.top) / area.height, (clientX - area.left) / area.width];
  const box = event.target.closest(".box");
  const index = box ? Number(box.dataset.person) : lastPerson;
  const begun = boxOf(index);
  const [y, x] = at(event);
  lastPerson = index;
  frame.setPointerCapture(event.pointerId);
  const move = (now) => {
    const [down, across] = at(now);
    if (box && event.target.localName !== "i") return moveBox(index, begun, down - y, across - x);
    const [top, left] = box ? begun : [y, x];
    if (Math.abs(down - top) < 0.02 || Math.abs(across - left) < 0.02) return;
    setBox(index, [Math.min(top, down), Math.min(left, across), Math.max(top, down), Math.max(left, across)]);
  };
  frame.addEventListener("pointermove", move);
  const end = () => frame.removeEventListener("pointermove", move);
  for (const last of ["pointerup", "pointercancel"]) frame.addEventListener(last, end, { once: true });
}

/** A box in pixels of the picture: top, left, bottom, right. */
function inPixels(index) {
  const [width, height] = pictureSize();
  const [top, left, bottom, right] = boxOf(index);
  return [top * height, left * width, bottom * height, right * width].map(Math.round);
}

/** The entries of a form that say who speaks what, and where. */
function peopleEntries() {
  const first = sounds[soundMode()];
  const others = page.people.slice(1).map((_, index) => $(`audio-${index + 2}`).files[0]);
  const two = page.people.length === 2 && (soundMode() === "text" || (first && others[0]));
  const entries = [];
  if (page.people.length > 1 && !two) {
    [first, ...others].forEach((sound, index) => {
      if (sound) entries.push([`speakers[${index + 1}][audio]`, sound]);
      for (const number of inPixels(index)) entries.push([`speakers[${index + 1}][bbox][]`, String(number)]);
    });
    return entries;
  }
  if (soundMode() === "text") {
    entries.push(["tts_text", $("tts-text").value.trim()]);
    if ($("tts-voice").value) entries.push(["tts_voice", $("tts-voice").value]);
    if (two && $("tts-voice-2").value) entries.push(["tts_voice_2", $("tts-voice-2").value]);
  } else if (first) entries.push(["audio_reference", first]);
  if (two) {
    if (others[0] && soundMode() !== "text") entries.push(["audio_reference_2", others[0]]);
    entries.push(["audio_type", $("audio-type").value]);
    if (page.people.some(({ drawn }) => drawn)) {
      for (const index of [0, 1]) {
        for (const number of inPixels(index)) entries.push([`bbox[person${index + 1}][]`, String(number)]);
      }
    }
  }
  return entries;
}
