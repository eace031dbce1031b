// Images that go with the next message: picked, dropped or pasted.

import { announce, byId, el } from "./dom.js";

const MOST_BYTES = 20 * 2 ** 20; // in base64 still under what a gateway takes by default
const KINDS = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"];

/** The images of the prompt; `changed()` is called when there are others. */
export class Images {
  constructor(changed) {
    this.list = []; // {name, url}, the URL with the bytes in it
    this.changed = changed;
    byId("attach").addEventListener("click", () => byId("files").click());
    byId("files").addEventListener("change", ({ target }) => {
      this.add(target.files);
      target.value = "";
    });
    byId("prompt").addEventListener("paste", (event) => {
      if (event.clipboardData.files.length) {
        event.preventDefault();
        this.add(event.clipboardData.files);
      }
    });
    this.#takeDrops();
  }

  /** Takes files in. */
  async add(files) {
    for (const file of files) {
      const fault = faultOf(file);
      if (fault) {
        this.#say(fault);
        continue;
      }
      this.list.push({ name: file.name || "image", url: await dataUrl(file) });
      this.#show();
      announce(`${file.name || "Image"} added`);
    }
    byId("prompt").focus();
  }

  /** The images, which then aren't the prompt's any more. */
  take() {
    const taken = this.list;
    this.list = [];
    this.#show();
    return taken;
  }

  /** Puts images back. */
  put(images) {
    this.list = [...images];
    this.#show();
  }

  #show() {
    const items = this.list.map((image) =>
      el("li", {}, el("img", { src: image.url, alt: image.name, width: "64", height: "64" }),
        el("button.quiet", { type: "button", "aria-label": `Remove ${image.name}`, click: () => this.#remove(image) }, "×")));
    byId("previews").replaceChildren(...items);
    this.changed();
  }

  #remove(image) {
    this.list = this.list.filter((it) => it !== image);
    this.#show();
    byId("prompt").focus();
  }

  #say(text) {
    const fault = el("li.fault", { role: "alert" }, text);
    byId("previews").append(fault);
    setTimeout(() => fault.remove(), 8000);
  }

  #takeDrops() {
    const holdsFiles = (event) => [...event.dataTransfer.types].includes("Files");
    let depth = 0; // of elements that the pointer has entered
    const mark = () => document.body.classList.toggle("dropping", depth > 0);
    for (const [kind, step] of [["dragenter", 1], ["dragleave", -1]]) {
      document.addEventListener(kind, (event) => {
        if (!holdsFiles(event)) return;
        depth = Math.max(0, depth + step);
        mark();
      });
    }
    document.addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
    document.addEventListener("drop", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      depth = 0;
      mark();
      this.add(event.dataTransfer.files);
    });
  }
}

function faultOf(file) {
  if (!KINDS.includes(file.type)) return `${file.name} is no PNG, JPEG, WebP, GIF or BMP image.`;
  return file.size > MOST_BYTES ? `${file.name} has more than 20 MiB.` : "";
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
