package preset_test

import (
	"fmt"
	"log"

	"github.com/presence-go/presence/preset"
)

// The choices of a subject under a preset, and how a login changes them.
func ExampleLookup() {
	for _, name := range []string{"thrivedesk", "threads"} {
		policy, known := preset.Lookup(name)
		if !known {
			log.Fatal("there are ", preset.Names())
		}
		fmt.Printf("%s: %s by default, %s when gone, login %ss\n", name, policy.Default, policy.Disconnected, policy.Login.Mode)
	}
	// Output:
	// thrivedesk: online by default, away when gone, login keeps
	// threads: active by default, offline when gone, login resets
}
