// Requests to this computer's own server. Those that change something carry the page's token.

const token = document.querySelector('meta[name="limner-token"]').content;

export class Failed extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { "x-limner-token": token, ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failed("The studio does not answer. Trainings go on; start `limner studio` again to see them.", 0);
  }
  if (answer.ok) return answer;
  let message = `The request failed (${answer.status}).`;
  try {
    message = (await answer.json()).error.message;
  } catch {
    // not JSON: the status says enough
  }
  throw new Failed(message, answer.status);
}

export const get = async (path) => (await request(path)).json();

export const post = async (path, fields = {}) => (await send(path, fields)).json();

export const send = (path, fields = {}, signal) =>
  request(path, { method: "POST", body: JSON.stringify(fields), headers: { "content-type": "application/json" }, signal });

export const upload = async (path, blob) => (await sendBlob(path, blob)).json();

export const sendBlob = (path, blob, signal) =>
  request(path, { method: "POST", body: blob, headers: { "content-type": "application/octet-stream" }, signal });

export const commandOf = (answer) => decodeURIComponent(answer.headers.get("x-limner-command") || "");

export const fetchBlob = async (path) => (await request(path)).blob();

// Ask again until a job has ended; `progress` is called with (done, total).
export async function finished(job, progress = () => {}) {
  for (;;) {
    const state = await get(`/api/jobs/${job}`);
    if (state.state === "done") return state.result;
    if (state.state === "failed") throw new Failed(state.error, 400);
    progress(state.done, state.total);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

// Newest wins: one request is under way and one value waits; a value that is overtaken is never sent.
export function newest(work, failed) {
  let waiting, running = false, number = 0;
  return async (value) => {
    waiting = { value };
    if (running) return;
    running = true;
    while (waiting) {
      const next = waiting.value;
      waiting = undefined;
      number += 1;
      try {
        await work(next, number);
      } catch (error) {
        if (!waiting) failed(error);
      }
    }
    running = false;
  };
}

export const viewName = () => `view-${Math.random().toString(36).slice(2)}`;
