package fleet

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
)

// Key is the key of a handshake that need not be random.
const Key = "AAAAAAAAAAAAAAAAAAAAAA=="

// Accept returns the answer of a server to a key.
func Accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Upgrade returns the request for a WebSocket. The target is the path with its
// query.
func Upgrade(host, target, key string, fields http.Header) string {
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n", target, host, key)
	_ = fields.Write(&b) // a builder takes everything
	b.WriteString("\r\n")
	return b.String()
}

// checkUpgrade returns an error if the answer to an upgrade is wrong.
func checkUpgrade(response *http.Response, key string) error {
	for field, want := range map[string]string{"Upgrade": "websocket", "Connection": "upgrade", "Sec-WebSocket-Accept": Accept(key)} {
		got := strings.Join(response.Header.Values(field), ",")
		if got != want && !strings.Contains(strings.ToLower(got), want) {
			return fmt.Errorf("the server upgrades with %s %q; want %q", field, got, want)
		}
	}
	return nil
}
