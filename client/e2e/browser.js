// A Chromium driven by its DevTools protocol, over a pipe. Unlike under a test
// driver, it treats pages like those of people. It hides and slows down pages
// behind others, and puts pages that are left into the back/forward cache.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PATIENCE = 20_000;

const flags = [
  "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-default-browser-check", "--disable-background-networking",
  "--disable-component-update", "--disable-default-apps", "--disable-sync", "--disable-quic", "--disable-extensions", "--mute-audio",
  "--disable-search-engine-choice-screen", "--password-store=basic", "--remote-debugging-pipe", "--window-size=800,600",
];

export const pause = (ms) => new Promise((next) => setTimeout(next, ms));

export class Browser {
  #count = 0;
  #answers = new Map();
  #listeners = new Set();

  static async launch() {
    const browser = new Browser();
    browser.folder = mkdtempSync(join(tmpdir(), "chromium-"));
    const process_ = spawn(process.env.CHROMIUM ?? "/usr/bin/chromium", [...flags, `--user-data-dir=${browser.folder}`, "about:blank"], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    browser.process = process_;
    browser.ended = new Promise((resolve) => process_.once("exit", resolve));
    let rest = "";
    process_.stdio[4].on("data", (data) => {
      const parts = (rest + data).split("\0");
      rest = parts.pop();
      for (const part of parts) browser.#receive(JSON.parse(part));
    });
    for (const stream of process_.stdio.slice(3)) stream.on("error", () => {});
    await browser.send("Target.setDiscoverTargets", { discover: true });
    return browser;
  }

  #receive({ id, sessionId, method, params, result, error }) {
    if (id) {
      const { resolve, reject, sent } = this.#answers.get(id);
      this.#answers.delete(id);
      if (error) reject(new Error(`${sent}: ${error.message}`));
      else resolve(result);
    } else {
      for (const f of this.#listeners) f(method, params, sessionId);
    }
  }

  send(method, params = {}, sessionId) {
    const id = ++this.#count;
    return new Promise((resolve, reject) => {
      this.#answers.set(id, { resolve, reject, sent: method });
      this.process.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + "\0");
    });
  }

  on(f) {
    this.#listeners.add(f);
  }

  // Opens a page in front of the open ones.
  async open(url) {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, targetId, sessionId);
    await page.send("Page.enable");
    await page.send("Runtime.enable");
    if (url) await page.go(url);
    return page;
  }

  // Returns the processes of pages. A stopped process freezes its pages wholly,
  // while the browser itself still answers for them.
  renderers() {
    const parent = new Map();
    const found = [];
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number)) {
      try {
        parent.set(pid, Number(readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) \S /, "").split(" ")[0]));
        if (readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("--type=renderer")) found.push(pid);
      } catch {
        // the process has ended
      }
    }
    return found.filter((pid) => {
      while (pid > 1 && pid !== this.process.pid) pid = parent.get(pid) ?? 0;
      return pid === this.process.pid;
    });
  }

  signal(name) {
    for (const pid of this.renderers()) process.kill(pid, name);
  }

  async close() {
    this.signal("SIGCONT");
    this.send("Browser.close").catch(() => {});
    const late = setTimeout(() => this.process.kill("SIGKILL"), 5000);
    await this.ended;
    clearTimeout(late);
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Page {
  errors = [];

  constructor(browser, target, session) {
    Object.assign(this, { browser, target, session });
    browser.on((method, params, sessionId) => {
      if (sessionId == session && method == "Runtime.exceptionThrown") this.errors.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    });
  }

  send(method, params) {
    return this.browser.send(method, params, this.session);
  }

  async go(url) {
    const { errorText } = await this.send("Page.navigate", { url });
    if (errorText) throw new Error(`${url}: ${errorText}`);
    await this.until("document.readyState == 'complete'");
  }

  async run(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", { expression: `(async () => (${expression}))()`, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  // Waits until an expression is true. A navigation meanwhile is no error.
  async until(expression, patience = PATIENCE) {
    for (const end = Date.now() + patience; ; await pause(40)) {
      const value = await this.run(expression).catch(() => false);
      if (value) return value;
      if (Date.now() > end) throw new Error(`never came true: ${expression}`);
    }
  }

  // Moves the pointer over the page and presses a button, like a person.
  async touch() {
    for (const type of ["mouseMoved", "mousePressed", "mouseReleased"]) await this.send("Input.dispatchMouseEvent", { type, x: 200, y: 300, button: type == "mouseMoved" ? "none" : "left", clickCount: 1 });
  }

  front() {
    return this.browser.send("Target.activateTarget", { targetId: this.target });
  }

  // Closes the tab like a person, so that the page gets its events.
  async close() {
    await this.send("Page.close");
  }
}
