// The command line of what the page shows, with a button that copies it.

import { alarm, announce, h } from "./dom.js";

export function commandLine(text = "", label = "Command") {
  const code = h("code", {}, text);
  const button = h("button", { class: "quiet copy", type: "button" }, "Copy");
  const row = h("div", { class: "command", role: "group", "aria-label": label },
    h("span", { class: "prompt", "aria-hidden": "true" }, "$"), h("div", { class: "command-text", tabindex: "0" }, code), button);
  button.addEventListener("click", async () => {
    try {
      await copy(code);
      button.textContent = "Copied";
      announce("The command is copied.");
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    } catch (error) {
      alarm(error);
    }
  });
  row.set = (to) => { code.textContent = to; row.hidden = !to; };
  row.text = () => code.textContent;
  row.hidden = !text;
  return row;
}

async function copy(code) {
  if (navigator.clipboard) return navigator.clipboard.writeText(code.textContent);
  const range = document.createRange(); // off loopback, browsers have no clipboard without TLS
  range.selectNodeContents(code);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
  document.execCommand("copy");
  return undefined;
}
