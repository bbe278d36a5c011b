// The events of the desk from the server. All pages of a browser share one stream,
// since a browser opens only six connections to a host. The page that holds the
// lock listens and passes the events on.

export function follow(take) {
  const others = new BroadcastChannel("helpdesk-feed");
  others.onmessage = (e) => take(e.data);
  navigator.locks.request("helpdesk-feed", () => {
    const source = new EventSource("/feed");
    source.onmessage = (e) => {
      const m = JSON.parse(e.data);
      take(m);
      others.postMessage(m);
    };
    return new Promise(() => {}); // until this page closes
  });
}

export const getHistory = async () => (await fetch("/api/history")).json();
