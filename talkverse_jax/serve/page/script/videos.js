// The list of my videos.

const rows = new Map(); // list items by id
let nextList = 0;

async function list(after = null) {
  clearTimeout(nextList);
  try {
    const found = await json(`/v1/videos?limit=20${after ? `&after=${after}` : ""}`);
    const ids = new Set(found.data.map(({ id }) => id));
    const first = found.data.at(-1)?.created_at ?? Infinity;
    const others = page.videos.filter(
      (video) => !ids.has(video.id) && (after || (found.has_more && video.created_at <= first)),
    );
    page.videos = after ? [...others, ...found.data] : [...found.data, ...others];
    if (after || page.videos.length === found.data.length) page.older = found.has_more;
  } catch {
    return;
  }
  renderVideos();
  showCosts();
  if (page.videos.some((video) => !ended(video))) nextList = setTimeout(list, 4000);
}

const WHEN = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const WORDS = { queued: "waiting", in_progress: "being made", completed: "", failed: "failed" };

function renderVideos() {
  const kept = new Set(page.videos.map(({ id }) => id));
  for (const [id, row] of rows) {
    if (kept.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  page.videos.forEach((video, index) => {
    const row = rows.get(video.id) ?? newRow(video);
    if (row.dataset.status !== video.status) {
      row.dataset.status = video.status;
      if (video.status === "completed") row.querySelector("img").src = path(video.id, "content?variant=thumbnail");
    }
    const stopped = video.error?.code === "cancelled" ? "stopped" : WORDS[video.status];
    const made = new Date(video.created_at * 1000).toLocaleString("en", WHEN);
    const share = video.status === "in_progress" ? `, ${video.progress} %` : "";
    row.querySelector(".facts").textContent = [stopped + share, `${video.seconds} s`, made]
      .filter(Boolean)
      .join(" · ");
    row.classList.toggle("shown", video.id === page.video?.id);
    if ($("jobs").children[index] !== row) $("jobs").insertBefore(row, $("jobs").children[index] ?? null);
  });
  $("none-yet").hidden = page.videos.length > 0;
  $("more").hidden = !page.older;
}

function newRow(video) {
  const about = `about-${video.id}`;
  const open = make("button", { type: "button", textContent: "Open" });
  const remove = make("button", { type: "button", className: "plain", textContent: "Delete" });
  for (const button of [open, remove]) button.setAttribute("aria-describedby", about);
  open.addEventListener("click", async () => {
    show(page.videos.find(({ id }) => id === video.id));
    $("stage").scrollIntoView({ block: "nearest" });
  });
  remove.addEventListener("click", () => askToDelete(video));
  const row = make(
    "li",
    {},
    make("div", { className: "thumbnail" }, make("img", { alt: "" })),
    make("p", { className: "prompt", id: about, textContent: video.prompt }),
    make("p", { className: "facts" }),
    make("div", { className: "row" }, open, remove),
  );
  row.dataset.videoId = video.id;
  rows.set(video.id, row);
  return row;
}

function askToDelete(video) {
  const dialog = $("confirm");
  dialog.returnValue = "";
  $("confirm-text").textContent = `“${brief(video.prompt)}” and its files go for good.`;
  dialog.onclose = async () => {
    if (dialog.returnValue !== "delete") return;
    const row = rows.get(video.id);
    const next = row?.nextElementSibling ?? row?.previousElementSibling;
    try {
      await call(`/v1/videos/${video.id}`, { method: "DELETE" });
    } catch (fault) {
      if (fault.code !== "video_not_found") return refused(fault);
    }
    forget(video.id);
    (next?.querySelector("button") ?? $("image")).focus();
    list();
  };
  dialog.showModal();
}

/** A video is gone. */
function forget(id) {
  page.videos = page.videos.filter((video) => video.id !== id);
  dropInputs(id);
  if (page.video?.id === id) {
    leave();
    page.video = page.inputs = null;
    resetPlayer();
    $("waiting").replaceChildren();
  }
  renderVideos();
  render();
}
