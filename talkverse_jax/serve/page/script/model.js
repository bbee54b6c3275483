// The controls as the loaded model has them.

function useModel(model) {
  page.model = model;
  const { settings, size_buckets: buckets, speakers, speech, prompt_enhancement: enhancing } = model.capabilities;
  for (const [field, id] of Object.entries(SETTINGS)) {
    const control = $(id);
    const about = settings[field];
    control.closest(".setting").hidden = !about;
    if (!about) continue;
    if (control.type === "select-one") {
      const values = field === "size_bucket" ? Object.keys(buckets) : about.enum;
      control.replaceChildren(...values.map((value) => new Option(value, value)));
    }
    if (control.type === "number") {
      control.min = about.minimum ?? "";
      control.max = about.maximum ?? "";
      if (field === "infer_frames") control.step = 4;
    }
    if (control.type === "checkbox") control.checked = about.default === true;
    else if (field !== "seed") control.value = about.default ?? "";
    if (about.description) helpFor(control, sentence(about.description));
  }
  $("people").hidden = !(speakers > 1);
  $("sound-text-choice").hidden = !speech;
  $("enhance").hidden = !enhancing;
  if (!model.capabilities.dubbing) $("image").accept = "image/png,image/jpeg,image/webp";
  makePresets();
  showDubbing();
  renderPeople();
}

function helpFor(control, words) {
  const id = `${control.id}-help`;
  const help = $(id) ?? make("p", { id, className: "help" });
  help.textContent = words;
  control.closest(".setting").append(help);
  describe(control, id, true);
}

async function fillVoices() {
  const { voices } = await json("/v1/audio/voices");
  for (const id of ["tts-voice", "tts-voice-2"])
    $(id).replaceChildren(...voices.map((name) => new Option(name, name)));
}
