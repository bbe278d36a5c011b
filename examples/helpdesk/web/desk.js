// What the pages about work have in common.

export const $ = (id) => document.getElementById(id);

// make builds an element. Text is text, whatever it contains.
export function make(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (key.startsWith("on")) e[key] = value;
    else if (value !== undefined && value !== false) e.setAttribute(key, value === true ? "" : value);
  }
  e.append(...children.filter((c) => c !== undefined && c !== false)); // so that a part can be left out by &&
  return e;
}

// ask has the desk do something, and hands what it refuses to tell.
export async function ask(what, tell) {
  const answer = await fetch("/api/work", { method: "POST", body: JSON.stringify(what) });
  tell(answer.ok ? "" : (await answer.text()).trim());
  return answer.ok;
}

// after calls f once things have been quiet for so long, or four times that
// after the first call.
export function after(ms, f) {
  let timer, first;
  return () => {
    clearTimeout(timer);
    first ??= performance.now();
    const left = Math.max(0, first + 4 * ms - performance.now());
    timer = setTimeout(() => {
      first = undefined;
      f();
    }, Math.min(ms, left));
  };
}

// since says how long ago an instant is at the desk's own time.
export function since(now, at) {
  const s = Math.max(0, Math.round((Date.parse(now) - Date.parse(at)) / 1000));
  return s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
