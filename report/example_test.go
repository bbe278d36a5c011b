package report_test

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/report"
)

// Ann's morning, as a log and summed up, for a spreadsheet.
func Example() {
	ctx := context.Background()
	mock := clock.NewMock()
	mock.Set(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	tracker, err := presence.New(&presence.Options{Clock: mock})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	conn, err := tracker.Connect(ctx, presence.ID("ann"), presence.ConnectOptions{Login: true})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := conn.Claim(ctx, presence.Claim{Status: "busy", Reason: "mail", For: time.Minute}); err != nil {
		log.Fatal(err)
	}
	for range 6 {
		mock.Add(25 * time.Second)
		if err := conn.Heartbeat(); err != nil {
			log.Fatal(err)
		}
	}
	if err := conn.Logout(); err != nil {
		log.Fatal(err)
	}
	mock.Add(time.Hour)

	query := report.Query{
		Subjects: []presence.Ref{presence.ID("ann")},
		From:     presence.At(mock.Now().Add(-2 * time.Hour)),
		To:       presence.At(mock.Now()),
	}
	if err := report.LogCSV(os.Stdout, report.Log(ctx, tracker.Journal, query)); err != nil {
		log.Fatal(err)
	}
	if err := report.WorkloadCSV(os.Stdout, report.Workload(ctx, tracker.Journal, query)); err != nil {
		log.Fatal(err)
	}
	// Output:
	// tenant,subject,at,from,to,reason,cause,trigger
	// ,"ann",2026-01-05T09:00:00Z,,"available",,"default","login"
	// ,"ann",2026-01-05T09:00:00Z,"available","busy","mail","manual","manual"
	// ,"ann",2026-01-05T09:01:00Z,"busy","available",,"default","until"
	// ,"ann",2026-01-05T09:02:30Z,"available","offline",,"logout","logout"
	// tenant,subject,from,to,status,reason,seconds,times
	// ,"ann",2026-01-05T08:02:30Z,2026-01-05T10:02:30Z,"unknown",,3450,0
	// ,"ann",2026-01-05T08:02:30Z,2026-01-05T10:02:30Z,"available",,90,2
	// ,"ann",2026-01-05T08:02:30Z,2026-01-05T10:02:30Z,"busy","mail",60,1
	// ,"ann",2026-01-05T08:02:30Z,2026-01-05T10:02:30Z,"offline",,3600,1
}
