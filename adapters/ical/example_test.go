package ical_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/presence-go/presence/adapters/ical"
	"github.com/presence-go/presence/schedule"
)

// A calendar of holidays closes what the week opens.
func ExampleExceptions() {
	calendar := strings.NewReader(strings.ReplaceAll(`BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//example//holidays//EN
BEGIN:VEVENT
UID:christmas
DTSTAMP:20260101T000000Z
DTSTART;VALUE=DATE:20261225
DTEND;VALUE=DATE:20261227
SUMMARY:Christmas
END:VEVENT
END:VCALENDAR
`, "\n", "\r\n"))
	plan, err := schedule.Parse("mon-sat 09:00-17:00; zone Europe/Berlin")
	if err != nil {
		log.Fatal(err)
	}
	year := func(month time.Month, day int) schedule.Date {
		return schedule.Date{Year: 2026, Month: month, Day: day}
	}
	closed, skipped, err := ical.Exceptions(context.Background(), calendar, plan, year(time.January, 1), year(time.December, 31), nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range skipped {
		log.Print(s)
	}
	plan.Exceptions = append(plan.Exceptions, closed...)
	hours, err := schedule.New(plan, nil)
	if err != nil {
		log.Fatal(err)
	}
	_, why := hours.Open(time.Date(2026, 12, 26, 12, 0, 0, 0, hours.Location()))
	fmt.Println(why)
	// Output:
	// closed: sat 2026-12-26 is closed (Christmas)
}
