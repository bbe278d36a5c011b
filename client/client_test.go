package client_test

import (
	"testing"
	"testing/fstest"

	"github.com/presence-go/presence/client"
)

func TestFiles(t *testing.T) {
	if err := fstest.TestFS(client.Files(), "presence.js", "elements.js"); err != nil {
		t.Fatal(err)
	}
}
