package scenario_test

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// candidates are single mutations to try for any statement. The search skips a
// mutation that is invalid for a file.
var candidates = []string{
	"idle.after=11m", "idle.after=9m", "idle.after=4m", "idle=none", "idle.on=online", "idle.on=busy", "idle.on=available,busy",
	`{"idle": [{"after": "30m", "to": "away", "on": ["online"]}]}`, `{"idle": [{"after": "30m", "to": "away", "on": ["available"]}]}`,
	"activity=input,login", "activity=login,claim", "activity=input,login,claim", "activity=input,login,claim,show",
	"devices.web.ignoreInput=true", "devices.mobile.ignoreInput=true",

	"login.mode=keep login.status=", "login.mode=reset login.status=online", "login.mode=reset login.status=available",
	"login.mode=reset login.status=away", "login.mode=reset login.status=busy", "login.status=invisible",
	"logoutScope=account", "logoutScope=session", "claimScope=subject", "claimScope=connection", "fold=invisible,away,online",
	"default=away", "default=busy", "default=invisible", "disconnected=away", "disconnected=busy", "disconnected=online",
	"disconnectProof=manual", "keepExplicit=true", "supervisorWhenOffline=refuse",
	`{"sources": [["system"], ["call"], ["app"], ["supervisor", "manual"], ["calendar"], ["login-default"]]}`,

	"grace.close=0s", "grace.close=5s", "grace.close=6s", "grace.close=1h", "grace.loss=0s", "grace.loss=1ms", "grace.loss=1h",
	"grace.logout=1s", "grace.logout=1h", "grace.lossFrom=report", "lease=59s", "lease=61s", "lease=2h",

	"statuses.offline.selectableBy=self", "statuses.offline.selectableBy=nobody", "statuses.away.selectableBy=nobody",
	"statuses.busy.selectableBy=nobody", "statuses.online.selectableBy=supervisor", "statuses.available.selectableBy=supervisor",
	"statuses.invisible.selectableBy=system",
	"statuses.available.class=busy", "statuses.online.class=away", "statuses.away.class=available", "statuses.away.class=busy",
	"statuses.away.class=offline", "statuses.busy.class=away", "statuses.offline.class=away", "statuses.invisible.class=away",
	"statuses.available.hiddenFrom=team", "statuses.online.hiddenFrom=visitor", "statuses.away.hiddenFrom=team",
	"statuses.busy.hiddenFrom=visitor", "statuses.invisible.hiddenFrom=none", "statuses.invisible.hiddenFrom=team,visitor",
	"statuses.online.routing=none", "statuses.away.routing=all", "statuses.busy.routing=all",
	"statuses.online.for=90s", "statuses.away.for=10s", "statuses.busy.for=30s", "statuses.busy.for=12m", "statuses.invisible.for=15m",

	"views.self=none", "views.team=none", "views.visitor=setAt", "views.visitor=setAt,masked,lastSeen",
	"widget.list=all", "widget.list=online", "widget.list=none", "publish=90s", "publish=10m", "disabled=true", "disabled=false",
	"group.available=away", "group.away=available", "group.away=away", "group.away=offline", "group.busy=available",
	"scheduleOpenEmpty=visible", "scheduleOpenEmpty=offline", "assumeStaffed=true",
	"gate.push.available=skip", "gate.push.away=deliver", "gate.push.disconnected=deliver",
	"gate.mobile.available=skip", "gate.mobile.away=deliver", "gate.mobile.disconnected=deliver",
	"gate.inapp.available=skip", "gate.inapp.away=skip", "gate.inapp.away=deliver",
	"gate.email.away=skip", "gate.email.away=deliver", "gate.email.disconnected=skip",
}

// suggestions lists, for each given statement, the candidates under which one
// of its lines fails. Candidates with the fewest other failing lines are first.
func suggestions(t *testing.T) string {
	t.Helper()
	type suggestion struct {
		text   string
		hit    int
		others int
	}
	asked := strings.Split(*search, ",")
	found := make(map[string][]suggestion)
	names, err := filepath.Glob(files + "/*.txt")
	require.NoError(t, err)
	for _, name := range names {
		s := load(t, filepath.Base(name))
		wanted := slices.DeleteFunc(slices.Clone(s.file.Proves), func(id string) bool { return *search != "all" && !slices.Contains(asked, id) })
		if len(wanted) == 0 {
			continue
		}
		for _, mutation := range candidates {
			failing, err := s.failing(t.Context(), mutation)
			if err != nil {
				continue // invalid here
			}
			for _, id := range wanted {
				if hit, others := split(failing, s.proving(id)); len(hit) > 0 {
					text := fmt.Sprintf("%s  %s  fails at %s, others: %s", s.name, mutation, spans(hit), spans(others))
					found[id] = append(found[id], suggestion{text, len(hit), len(others)})
				}
			}
		}
	}
	var b strings.Builder
	ids := statements()
	for _, id := range ids {
		slices.SortStableFunc(found[id], func(x, y suggestion) int { return cmp.Or(x.others-y.others, y.hit-x.hit) })
		for i, s := range found[id] {
			if i == 0 {
				fmt.Fprintf(&b, "\n%s", id)
			}
			if i < 12 {
				fmt.Fprintf(&b, "\n    %s", s.text)
			}
		}
	}
	return b.String()
}
