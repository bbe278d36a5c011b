// The configuration of pusher-js for its integration specs in Node. The sources
// are only translated: their types need packages that the specs do not.

const config = require(`${process.cwd()}/spec/config/jasmine/webpack.integration.js`);

for (const rule of config.module.rules) {
  if (rule.loader === "ts-loader") rule.options = { transpileOnly: true };
}
module.exports = { ...config, mode: "development", devtool: false };
