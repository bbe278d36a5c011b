// Package edgetest checks what the adapters of package edge have in common.
package edgetest

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// Upgrade asks a server for a WebSocket on a host. It returns the answer and a
// reader of what follows.
func Upgrade(t *testing.T, address, path, host string, header http.Header) (*http.Response, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host, r.Header = host, header
	for name, value := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		r.Header.Set(name, value)
	}
	require.NoError(t, r.Write(conn))
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, r)
	require.NoError(t, err)
	return response, in
}

// Host is the host that requests of [Origins] are for.
const Host = "Desk.Example"

// Origins checks the table of AllowedOrigins row by row over HTTP. serve starts
// a server with a list of origins. It returns a function that opens a session
// with a host and headers. That function returns why the session was refused,
// or "".
func Origins(t *testing.T, serve func(t *testing.T, allowed []string) (open func(host string, header http.Header) (why string))) {
	t.Helper()
	columns := [][]string{nil, {"https://App.Example:443"}, {"*"}}
	for i, allowed := range columns {
		open := serve(t, allowed)
		for _, row := range []struct {
			request, host, origin, site string
			yes                         [3]bool // for each column
		}{
			{"page of the own host", Host, "http://desk.example", "", [3]bool{true, true, true}},
			{"page of the own host over TLS", Host, "https://desk.example", "same-origin", [3]bool{true, true, true}},
			{"page of the own host with its default port", Host + ":443", "https://DESK.example", "", [3]bool{true, true, true}},
			{"page that names the default port", Host, "http://desk.example:80", "", [3]bool{true, true, true}},
			{"page of the own port", Host + ":8080", "http://desk.example:8080", "", [3]bool{true, true, true}},
			{"listed origin", Host, "https://app.example", "cross-site", [3]bool{false, true, true}},
			{"listed origin in other letters", Host, "HTTPS://APP.example:443", "", [3]bool{false, true, true}},
			{"another page", Host, "https://evil.example", "cross-site", [3]bool{false, false, true}},
			{"page of another scheme", Host, "http://app.example", "", [3]bool{false, false, true}},
			{"page of another port", Host, "https://app.example:8443", "", [3]bool{false, false, true}},
			{"page of another port of the own host", Host, "http://desk.example:8080", "same-site", [3]bool{false, false, true}},
			{"page of a host that begins alike", Host, "http://desk.example.evil.example", "", [3]bool{false, false, true}},
			{"page without an origin of its own", Host, "null", "", [3]bool{false, false, true}},
			{"no origin", Host, "", "", [3]bool{true, true, true}},
			{"no origin, of the same origin", Host, "", "same-origin", [3]bool{true, true, true}},
			{"no origin, typed", Host, "", "none", [3]bool{true, true, true}},
			{"no origin, of another site", Host, "", "cross-site", [3]bool{false, false, true}},
			{"no origin, of the same site", Host, "", "same-site", [3]bool{false, false, true}},
		} {
			header := make(http.Header)
			if row.origin != "" {
				header.Set("Origin", row.origin)
			}
			if row.site != "" {
				header.Set("Sec-Fetch-Site", row.site)
			}
			why := open(row.host, header)
			if row.yes[i] {
				require.Empty(t, why, "%s, allowed %q", row.request, allowed)
			} else {
				require.Contains(t, why, "to AllowedOrigins", "%s, allowed %q", row.request, allowed)
			}
		}
	}
}
