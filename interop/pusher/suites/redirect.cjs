// Preloaded into Node: connections to Pusher's hosts reach the adapter. The specs
// of pusher-js name these hosts.

const net = require("node:net");
const tls = require("node:tls");

const [plain, secure] = [process.env.PLAIN_PORT, process.env.SECURE_PORT].map(Number);

for (const [module, port] of [[net, plain], [tls, secure]]) {
  const connect = module.connect;
  module.connect = module.createConnection = (options, ...rest) => {
    if (typeof options === "object" && /\.pusher\.com$/.test(options.host ?? options.hostname ?? "")) {
      options = { ...options, host: "127.0.0.1", hostname: "127.0.0.1", port, rejectUnauthorized: false };
    }
    return connect(options, ...rest);
  };
}
