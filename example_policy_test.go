package presence_test

import (
	"fmt"
	"log"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

// A policy is a value: take the one that comes closest and change what differs.
func ExamplePolicy() {
	policy := preset.RespondIO()
	policy.Name = "mine"
	policy.AddStatus(presence.Status{ID: "lunch", Label: "At lunch", Class: presence.ClassAway, For: 45 * time.Minute})
	policy.Idle[0].After = 15 * time.Minute
	policy.Grace.Close = 10 * time.Second
	if err := policy.Set("statuses.busy.color", "#d04437"); err != nil { // by path, as from a command line
		log.Fatal(err)
	}

	machine, err := presence.Compile(policy) // as presence.New does with Options.Policy
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(machine.Selectable(presence.BySelf))
	// Output: [online busy lunch]
}

// The same as data, for a policy that is not compiled in. "presencectl policy
// NAME" prints a preset in this form.
func ExampleParsePolicy() {
	policy, warnings, err := presence.ParsePolicy([]byte(`{
		"version": 1,
		"name": "mine",
		"extends": "respondio",
		"idle": [{"after": "15m", "to": "offline", "on": ["online", "busy"]}],
		"grace": {"close": "10s"}
	}`), preset.Lookup)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(policy.Name, policy.Default, policy.Idle[0].After, policy.Grace.Close, policy.Grace.Loss, len(warnings))
	// Output: mine online 15m0s 10s 15s 0
}

// All faults of a document are reported together, each with its path.
func ExampleParsePolicy_faults() {
	_, _, err := presence.ParsePolicy([]byte(`{
		"version": 1,
		"extends": "respondio",
		"default": "onlin",
		"lease": "10s",
		"idle": [{"after": "15m", "to": "gone", "on": ["online"]}]
	}`), preset.Lookup)
	fmt.Println(err)
	// Output:
	// presence: invalid policy "default": "onlin" is not a status of this policy; allowed: online, busy, offline
	// presence: invalid policy "lease": 10s must be longer than the heartbeat of 25s
	// presence: invalid policy "idle[0].to": "gone" is not a status of this policy; allowed: online, busy, offline
}
