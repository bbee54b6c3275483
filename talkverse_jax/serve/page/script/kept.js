// Inputs that this browser keeps.

/** Do something with the store of inputs; null where the browser has none, or no room. */
async function withInputs(mode, act) {
  const result = (request) =>
    new Promise((done, fail) => {
      request.onsuccess = () => done(request.result);
      request.onerror = () => fail(request.error);
    });
  try {
    const opening = indexedDB.open("talking-videos", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("inputs", { keyPath: "id" });
    const database = await result(opening);
    try {
      return await act(database.transaction("inputs", mode).objectStore("inputs"), result);
    } finally {
      database.close();
    }
  } catch {
    return null;
  }
}

const inputsOf = async (id) =>
  (await withInputs("readonly", (store, result) => result(store.get(id))))?.entries ?? null;
const dropInputs = (id) => withInputs("readwrite", (store, result) => result(store.delete(id)));
const dropAllInputs = () => withInputs("readwrite", (store, result) => result(store.clear()));

function keepInputs(id, formEntries) {
  return withInputs("readwrite", async (store, result) => {
    await result(store.put({ id, at: Date.now(), entries: formEntries }));
    const all = await result(store.getAll());
    for (const old of all.sort((one, other) => other.at - one.at).slice(KEPT_INPUTS))
      await result(store.delete(old.id));
  });
}
