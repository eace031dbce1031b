// The panel at the side, the dialogs, and the keys that lead to them.

import { currentKey, useKey, whenKeyIsNeeded } from "./api.js";
import { byId } from "./dom.js";

const TABS = ["settings", "models"];

/** Shows and hides the panel. `authenticated()` is called when there is another key. */
export class Panel {
  constructor(authenticated) {
    this.authenticated = authenticated;
    for (const tab of TABS) {
      byId(`show-${tab}`).addEventListener("click", () => this.toggle(tab));
      byId(`tab-${tab}`).addEventListener("click", () => this.show(tab));
      byId(`tab-${tab}`).addEventListener("keydown", (event) => this.#step(event, tab));
    }
    byId("close-side").addEventListener("click", () => this.hide());
    byId("show-keys").addEventListener("click", () => byId("keys-dialog").showModal());
    byId("change-key").addEventListener("click", () => this.#change());
    byId("forget-key").addEventListener("click", () => this.#use(""));
    byId("key-cancel").addEventListener("click", () => byId("key-dialog").close(""));
    whenKeyIsNeeded((why) => this.#ask(why));
    this.#use(currentKey());
  }

  /** Which tab is shown; `null` for none. */
  get open() {
    return byId("side").hidden ? null : TABS.find((tab) => !byId(tab).hidden);
  }

  /** Shows a tab, or hides the panel if it is shown. */
  toggle(tab) {
    if (this.open === tab) this.hide();
    else this.show(tab);
  }

  /** Shows a tab. */
  show(tab) {
    byId("side").hidden = false;
    for (const each of TABS) {
      byId(each).hidden = each !== tab;
      byId(`tab-${each}`).setAttribute("aria-selected", String(each === tab));
      byId(`tab-${each}`).tabIndex = each === tab ? 0 : -1;
      byId(`show-${each}`).setAttribute("aria-expanded", String(each === tab));
    }
    byId(`tab-${tab}`).focus();
  }

  /** Hides the panel. */
  hide() {
    const { open } = this;
    if (!open) return;
    byId("side").hidden = true;
    byId(`show-${open}`).setAttribute("aria-expanded", "false");
    byId(`show-${open}`).focus();
  }

  #step(event, tab) {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    this.show(TABS[1 - TABS.indexOf(tab)]);
  }

  async #change() {
    const key = await this.#ask("Another key for this gateway.");
    if (key) this.#use(key);
  }

  #use(key) {
    useKey(key);
    byId("key-in-use").hidden = !key;
    this.authenticated();
  }

  #ask(why) {
    const dialog = byId("key-dialog");
    byId("key-why").textContent = why;
    byId("key").value = "";
    dialog.returnValue = "";
    if (!dialog.open) dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => {
        const key = dialog.returnValue === "use" ? byId("key").value.trim() : "";
        byId("key").value = "";
        byId("key-in-use").hidden = !key && !currentKey();
        resolve(key);
        if (key) this.authenticated();
      }, { once: true });
    });
  }
}
