// The configuration of pusher-js for its integration specs in a browser, for one
// Chromium in which Pusher's hosts are the adapter. Over its other transports the
// adapter cannot be reached: MINIMAL_INTEGRATION_TESTS leaves them out.

const config = require(`${process.cwd()}/spec/config/karma/config.integration.js`);

const index = "spec/javascripts/integration/index.web.js";
for (const rule of config.webpack.module.rules) {
  if (rule.loader === "ts-loader") rule.options = { transpileOnly: true };
}
config.webpack.devtool = false;
Object.assign(config, {
  basePath: process.cwd(),
  files: [index],
  preprocessors: { [index]: ["webpack"] },
  plugins: ["karma-jasmine", "karma-chrome-launcher", "karma-webpack", "karma-verbose-reporter"],
  colors: false,
  captureTimeout: 120_000,
  browserNoActivityTimeout: 120_000,
  browsers: ["Chromium"],
  customLaunchers: {
    Chromium: {
      base: "ChromeHeadless",
      flags: ["--no-sandbox", "--disable-gpu", "--ignore-certificate-errors", `--host-resolver-rules=MAP *.pusher.com:443 127.0.0.1:${process.env.SECURE_PORT}`],
    },
  },
});

module.exports = (suite) => suite.set({ ...config, logLevel: suite.LOG_WARN });
