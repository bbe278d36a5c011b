// Stands for the server of soketi in its own tests: it runs the adapter, and
// answers the questions of the tests about its state.

import { ChildProcess, execFileSync, spawn } from 'node:child_process';

const Pusher = require('pusher');
const PusherJS = require('pusher-js');

const address = '127.0.0.1:6001';
const app = { appId: 'app-id', key: 'app-key', secret: 'app-secret', host: '127.0.0.1', port: 6001 };
const get = (url: string, ...more: string[]): string => execFileSync('curl', ['-sS', ...more, `http://${address}${url}`]).toString();

// The tests sign their users and know nothing of grants.
const subscribe = PusherJS.prototype.subscribe;
PusherJS.prototype.subscribe = function (channel: string) {
    for (const user of [1, 2]) {
        get(`/grant/app-id?channel=${channel}&user=${user}`, '-X', 'POST');
    }
    return subscribe.call(this, channel);
};

export class Server {
    options = { cache: { driver: 'memory' } };
    process: ChildProcess;

    constructor(_: object) {}

    start(callback: (server: Server) => void): void {
        this.process = spawn(process.env.SERVER, ['-sockets', address], { stdio: ['ignore', 'pipe', 'inherit'] });
        this.process.stdout.once('data', () => callback(this));
    }

    // Clients that a test leaves open would connect to the server of the next one,
    // and fail it.
    stop(): Promise<void> {
        PusherJS.instances.forEach((client) => client.disconnect());
        return new Promise((resolve) => {
            this.process.once('exit', () => resolve());
            this.process.kill();
        });
    }

    adapter = {
        getNamespace: (_: string) => {
            const query = new Pusher(app).createSignedQueryString({ method: 'GET', path: '/apps/app-id/channels', params: {} });
            const channels = new Map(Object.entries(JSON.parse(get(`/apps/app-id/channels?${query}`)).channels));
            const presence = new Map([...channels].filter(([name]) => name.startsWith('presence-')));
            const sockets = new Map([...Array(Number(get('/sockets'))).keys()].map((n) => [n, { subscribedChannels: channels, presence }]));
            return { channels, sockets };
        },
        getChannelMembers: async (_: string, channel: string) => {
            const answer = await new Pusher(app).get({ path: `/channels/${channel}/users` });
            return new Map((await answer.json()).users.map(({ id }) => [id, {}]));
        },
    };
}
