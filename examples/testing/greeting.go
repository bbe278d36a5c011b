// Package greeting is a small part of an application that depends on presence.
// It shows how to test such code: see greeting_test.go.
package greeting

import (
	"context"

	"github.com/presence-go/presence"
)

// For returns the current greeting of the chat widget of a channel.
func For(ctx context.Context, tracker *presence.Tracker, channel presence.Channel) (string, error) {
	_, group, err := tracker.ListAs(ctx, presence.AudienceVisitor, channel, nil)
	if err != nil {
		return "", err
	}
	switch group.Status {
	case presence.GroupAvailable:
		return "Hello! Ask us anything.", nil
	case presence.GroupAway:
		return "We are around, but an answer may take a while.", nil
	default:
		return "We are closed. Leave us a message.", nil
	}
}
