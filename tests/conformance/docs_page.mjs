// Runs the script of the documentation page on a document of its own, as little of one as it needs; prints what a
// reader would see when everything is unfolded. Arguments: the page and the OpenAPI document.

import { readFileSync } from "node:fs";

class Element {
  constructor(tag) {
    this.tag = tag;
    this.parts = [];
    this.style = {};
  }
  appendChild(child) {
    this.parts.push(child);
    return child;
  }
  set textContent(text) {
    this.parts = [String(text)];
  }
  get textContent() {
    return this.parts.map((part) => (typeof part === "string" ? part : part.textContent)).join(" ");
  }
}

const [, , page, api] = process.argv;
const known = { intro: new Element("div"), main: new Element("main") };
const script = readFileSync(page, "utf8").split("<script>")[1].split("</script>")[0];

globalThis.document = {
  createElement: (tag) => new Element(tag),
  getElementById: (id) => known[id] ?? null,
};
globalThis.location = { hash: "" };
globalThis.addEventListener = () => undefined;
globalThis.HTMLDetailsElement = Element;
globalThis.DOMParser = class {
  parseFromString(text) {
    return { querySelector: () => ({ textContent: /<p>(.*?)<\/p>/s.exec(text)?.[1] }) };
  }
};
globalThis.fetch = async () => ({ json: async () => JSON.parse(readFileSync(api, "utf8")) });

new Function(script)();
await new Promise((resolve) => setTimeout(resolve, 0));
console.log(JSON.stringify({ intro: known.intro.textContent, main: known.main.textContent }));
