// What happens at the desk, as the server tells it. All pages of a browser share
// one stream, since a browser opens only six connections to a host: whoever
// holds the lock listens and passes it on.

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
    return new Promise(() => {}); // until this page goes
  });
}

export const getHistory = async () => (await fetch("/api/history")).json();
