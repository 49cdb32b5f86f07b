// Keys, files that are opened, dropped or pasted, and the window of help.

import { $, complain } from "./dom.js";

const TOOLS = { r: "rows", b: "box", p: "brush", e: "eraser" };

export function connectKeys({ editor, source, drawing, chooseTool, loadMask }) {
  const choose = (file) => file && source.chooseFile(file);

  for (const [button, input, take] of [["open", "file", choose], ["load-mask", "mask-file", loadMask]]) {
    $(button).addEventListener("click", () => $(input).click());
    $(input).addEventListener("change", () => {
      const [file] = $(input).files;
      if (file) take(file);
      $(input).value = "";
    });
  }

  $("paste").addEventListener("click", async () => {
    try {
      for (const item of await navigator.clipboard.read()) {
        const type = item.types.find((one) => one.startsWith("image/"));
        if (type) return choose(await item.getType(type));
      }
      complain("expected a picture in the clipboard, got none: copy one first");
    } catch {
      complain("the browser does not let the page read the clipboard: press Ctrl V instead");
    }
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file) choose(file);
  });

  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").hidden = false;
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").hidden = true;
    const [file] = event.dataTransfer.files;
    if (file) choose(file);
    else complain("expected a picture's file, got something else: save the picture first");
  });

  $("help").addEventListener("click", () => $("keys").showModal());

  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const key = event.key.toLowerCase(), isControl = event.ctrlKey || event.metaKey;
    if (event.key === "Escape") return drawing.stop();
    if (isControl && event.key === "Enter") {
      if (!drawing.isRunning && !$("draw").disabled) $("form").requestSubmit();
      return;
    }
    // Where somebody writes, letters are letters.
    if (event.target.matches("input:not([type=range]), select, textarea")) return;
    if (isControl && (key === "z" || key === "y")) {
      event.preventDefault();
      if (key === "y" || event.shiftKey) editor.redo();
      else editor.undo();
    } else if (isControl || event.altKey) return;
    else if (key === "?") $("keys").showModal();
    else if (!editor.enabled) return;
    else if (key in TOOLS) chooseTool(TOOLS[key]);
    else if (key === "i") editor.invert();
    else if (key === "c") editor.clear();
    else if (key === "[" || key === "]") editor.setSize(editor.size + (key === "]" ? 1 : -1));
  });
}
