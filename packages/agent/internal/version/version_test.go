package version

import "testing"

// The order of UAPI.10's examples, of revisions and of dates; each version ranks below the next.
var ascending = [][]string{
	{"1.36.4", "1.36.4-1", "1.36.4-2", "1.36.4-10", "1.36.5", "1.36.10", "1.37.0", "2.0.0"},
	{"1~rc1", "1", "1-1", "1^1", "1.1", "10"},
	{"2026.1.2", "2026.11.23", "2026.11.27", "2027.1.1"},
	{"1.0", "1.0.1", "1.0a", "1.0b", "1.0ba", "1.1"},
	{"7", "007.1", "8", "99999999999999999999998", "99999999999999999999999"},
}

func TestCompare(t *testing.T) {
	for _, list := range ascending {
		for i, a := range list {
			for j, b := range list {
				got := Compare(a, b)
				if (i < j && got >= 0) || (i > j && got <= 0) || (i == j && got != 0) {
					t.Errorf("Compare(%q, %q) = %d", a, b, got)
				}
			}
		}
	}
}

func FuzzCompare(f *testing.F) {
	f.Add("1.36.4-1", "1.36.4")
	f.Add("1~^-.", "1..")
	f.Fuzz(func(t *testing.T, a, b string) {
		if x, y := Compare(a, b), Compare(b, a); (x < 0) != (y > 0) || (x == 0) != (y == 0) {
			t.Errorf("Compare(%q, %q) = %d, and %d the other way", a, b, x, y)
		}
		if Compare(a, a) != 0 {
			t.Errorf("%q does not equal itself", a)
		}
	})
}

func TestChannels(t *testing.T) {
	for _, test := range []struct {
		version, channel string
		want             bool
	}{
		{"1.36.4", "latest", true},
		{"1.36.4", "1.36", true},
		{"1.36.4-1", "1.36", true},
		{"1.36.4-1", "1.36.4", true},
		{"1.36.4-1", "1.36.4-1", true},
		{"1.36.4", "1.36.4-1", false},
		{"1.360.4", "1.36", false},
		{"1.36.40", "1.36.4", false},
	} {
		if got := InChannel(test.version, test.channel); got != test.want {
			t.Errorf("InChannel(%q, %q) = %v", test.version, test.channel, got)
		}
	}
	for text, want := range map[string]bool{"latest": true, "1.36": true, "29": true, "1.36.4-1": true, "": false, "newest": false, "1.36/..": false, "v1": false} {
		if IsChannel(text) != want {
			t.Errorf("IsChannel(%q) = %v", text, !want)
		}
	}
	for version, want := range map[string]string{"1.36.4": "1.36", "1.36.4-1": "1.36", "29": "29", "7-2": "7"} {
		if got := Minor(version); got != want {
			t.Errorf("Minor(%q) = %q", version, got)
		}
	}
}
