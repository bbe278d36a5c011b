package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/cmd/presencectl/internal/load"
)

// TestMain lets -serve start this program as its server.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == load.ServerCommand {
		main()
	}
	os.Exit(m.Run())
}

func TestLoad(t *testing.T) {
	code, out, wrong := call("load", "-serve", "-agents", "3", "-visitors", "6", "-for", "1s")
	require.Equal(t, exitFine, code, wrong)
	require.Contains(t, out, "3 agents and 6 visitors")
	require.Contains(t, out, "faults       none")

	code, out, _ = call("load", "-help")
	require.Equal(t, exitFine, code)
	require.Equal(t, load.Usage, out)

	code, out, wrong = call("load", "-agents", "-1", "-for", "0s")
	require.Equal(t, exitWrong, code)
	require.Empty(t, out)
	require.Contains(t, wrong, "-agents -1: want 0 to")
	require.Contains(t, wrong, "-for 0s: want 1s to")
}

// TestLoadFails checks that a server that closes each connection after the
// welcome is at fault.
func TestLoadFails(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := wsutil.ReadClientText(conn); err != nil {
			return
		}
		_ = wsutil.WriteServerText(conn, fmt.Appendf(nil, `{"type":"welcome","v":1,"statuses":[]}`))
		_ = ws.WriteFrame(conn, ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusGoingAway, "off")))
		_, _ = wsutil.ReadClientText(conn)
	}))
	defer server.Close()
	code, out, wrong := call("load", "-url", "ws"+strings.TrimPrefix(server.URL, "http")+"/", "-agents", "1", "-visitors", "1", "-for", "1s", "-ramp", "0")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "closed with 1001")
	require.Contains(t, wrong, "the server is at fault")

	server.Close()
	code, out, wrong = call("load", "-url", "ws"+strings.TrimPrefix(server.URL, "http")+"/")
	require.Equal(t, exitWrong, code)
	require.Empty(t, out)
	require.Contains(t, wrong, "connection refused")
}
