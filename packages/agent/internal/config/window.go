package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Window is a time of the week, in the node's time zone.
type Window struct {
	days [7]bool
	// Minutes since midnight; an end that is not after the start is on the next day.
	start, end int
}

var (
	windowText = regexp.MustCompile(`^(?:(\S+) )?(\d\d):(\d\d)-(\d\d):(\d\d)$`)
	days       = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}
)

// UnmarshalText reads "Sat,Sun 02:00-05:00", "Mon-Fri 23:00-01:00" or "03:00-04:00" (every day).
func (w *Window) UnmarshalText(text []byte) error {
	wrong := fmt.Errorf(`%q is not a time of the week: write it as "Sat,Sun 02:00-05:00"`, text)
	match := windowText.FindStringSubmatch(string(text))
	if match == nil {
		return wrong
	}
	var clock [4]int
	for i := range clock {
		clock[i], _ = strconv.Atoi(match[i+2])
	}
	if clock[0] > 23 || clock[2] > 23 || clock[1] > 59 || clock[3] > 59 {
		return wrong
	}
	w.start, w.end = clock[0]*60+clock[1], clock[2]*60+clock[3]
	if match[1] == "" {
		w.days = [7]bool{true, true, true, true, true, true, true}
		return nil
	}
	for part := range strings.SplitSeq(match[1], ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, last := dayOf(from), dayOf(to)
		if !isRange {
			last = first
		}
		if first < 0 || last < 0 {
			return wrong
		}
		for day := first; ; day = (day + 1) % 7 {
			w.days[day] = true
			if day == last {
				break
			}
		}
	}
	return nil
}

func dayOf(name string) int {
	for day, one := range days {
		if one == name {
			return day
		}
	}
	return -1
}

// Contains reports whether a moment is in the window.
func (w Window) Contains(moment time.Time) bool {
	minute, day := moment.Hour()*60+moment.Minute(), int(moment.Weekday())
	if w.start < w.end {
		return w.days[day] && minute >= w.start && minute < w.end
	}
	return (w.days[day] && minute >= w.start) || (w.days[(day+6)%7] && minute < w.end)
}
