package edge_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

func TestCheckActor(t *testing.T) {
	ann := presence.Identity{Actor: presence.Agent(presence.ID("ann"))}
	for _, test := range []struct {
		who    presence.Identity
		err    error
		status int
		text   string
		logged string
	}{
		{who: ann},
		{who: ann, err: errors.New("the token is of 1998"), status: http.StatusUnauthorized, text: "wire: log in first", logged: "DEBUG"},
		{who: ann, err: fmt.Errorf("%w: ann left us", presence.ErrNotAllowed), status: http.StatusForbidden, text: "not allowed: ann left us", logged: "DEBUG"},
		{who: ann, err: fmt.Errorf("%w: dial 10.0.0.7", presence.ErrUnavailable), status: http.StatusServiceUnavailable, text: "wire: authentication is unavailable; try again", logged: "DEBUG"},
		{status: http.StatusInternalServerError, text: "wire: authentication failed on the server", logged: "ERROR"},
		{who: presence.Identity{Actor: presence.Actor{Subject: presence.Ref{Tenant: "acme"}, Role: presence.RoleVisitor}}, status: http.StatusInternalServerError, text: "wire: authentication failed on the server", logged: "ERROR"},
	} {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		who, refused := edge.CheckActor("wire", logger, request("a.example", "", ""), test.who, test.err)
		if test.status == 0 {
			require.Nil(t, refused)
			require.Equal(t, test.who, who)
			require.Empty(t, log.String())
			continue
		}
		require.Equal(t, &edge.Refusal{Status: test.status, Text: test.text}, refused)
		require.Zero(t, who)
		require.Contains(t, log.String(), "level="+test.logged)
	}
}

func TestPresent(t *testing.T) {
	for role, present := range map[presence.Role]bool{
		"": true, presence.RoleAgent: true, presence.RoleSupervisor: true, presence.RoleAdmin: true, presence.RoleVisitor: false, presence.RoleSystem: false,
	} {
		require.Equal(t, present, edge.Present(presence.Actor{Role: role}), role)
	}
}
