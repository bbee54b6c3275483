// How the server is asked, and how it is.

/** What the server refused. */
class Refusal extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `The server answered ${status}.`);
    this.status = status;
    this.code = body?.error?.code ?? "";
    this.param = body?.error?.param ?? null;
  }
}

/** An answer of the server; throws a Refusal, or what fetch throws where nothing answers. */
async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (fault) {
    if (fault.name !== "AbortError") lookNow();
    throw fault;
  }
  if (answer.ok) return answer;
  throw noticeRefusal(new Refusal(answer.status, await answer.json().catch(() => null)));
}

function noticeRefusal(refusal) {
  if (refusal.status === 401) {
    page.locked = true;
    page.model = null;
    render();
  }
  return refusal;
}

const json = async (path, options) => (await call(path, options)).json();
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

let nextLook = 0;

/** Ask how the server is, now and from now on; when it is back, go on where things stood. */
async function look() {
  clearTimeout(nextLook);
  const was = page.offline || !page.server;
  try {
    const answer = await fetch("/health", { cache: "no-store", signal: AbortSignal.timeout(8000) });
    page.server = await answer.json();
    page.offline = false;
  } catch {
    page.offline = true;
  }
  render();
  if (!page.offline && (was || !page.model) && !page.locked) await arrive();
  clearTimeout(nextLook);
  nextLook = setTimeout(look, page.offline || page.server?.state !== "ready" ? 1500 : page.video ? 5000 : 10000);
}

function lookNow() {
  clearTimeout(nextLook);
  nextLook = setTimeout(look, 50);
}

/** At the beginning, after signing in, and when the server is back. */
async function arrive() {
  try {
    const models = await json("/v1/models");
    if (!page.model) useModel(models.data[0]);
    if (page.model.capabilities.speech && !$("tts-voice").length) await fillVoices();
    await list();
    if (page.sending) send(page.sending);
    else if (page.video) await refresh(page.video.id);
    else if (page.videos.some((video) => !ended(video))) show(page.videos.find((video) => !ended(video)));
  } catch (fault) {
    if (fault instanceof Refusal && !page.locked) tell(fault.message);
  }
  render();
}
