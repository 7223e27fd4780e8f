// Package version compares versions and matches them with channels.
package version

import (
	"regexp"
	"strings"
)

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isAlpha(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isValid(c byte) bool { return isDigit(c) || isAlpha(c) || strings.IndexByte("~-^.", c) >= 0 }

func at(text string, i int) byte {
	if i < len(text) {
		return text[i]
	}
	return 0
}

func span(text string, is func(byte) bool) string {
	end := 0
	for end < len(text) && is(text[end]) {
		end++
	}
	return text[:end]
}

// Compare orders versions as systemd does (UAPI.10 Version Format Specification): 1.36.4 < 1.36.4-1 < 1.36.4-10 < 1.36.5.
// The result is negative, zero or positive.
func Compare(a, b string) int {
	x, y := 0, 0
	for {
		for x < len(a) && !isValid(a[x]) {
			x++
		}
		for y < len(b) && !isValid(b[y]) {
			y++
		}
		// "~" ranks below the end of the string, "-" below "^", "^" below ".", and each above the end.
		if at(a, x) == '~' || at(b, y) == '~' {
			if at(a, x) != at(b, y) {
				return order(at(a, x) != '~')
			}
			x, y = x+1, y+1
		}
		if x >= len(a) || y >= len(b) {
			if x >= len(a) && y >= len(b) {
				return 0
			}
			return order(x < len(a))
		}
		separated := false
		for _, separator := range []byte("-^.") {
			if at(a, x) != separator && at(b, y) != separator {
				continue
			}
			if at(a, x) != at(b, y) {
				return order(at(a, x) != separator)
			}
			x, y, separated = x+1, y+1, true
		}
		if separated && (x >= len(a) || y >= len(b)) {
			continue
		}
		is, compare := isAlpha, strings.Compare
		if isDigit(at(a, x)) || isDigit(at(b, y)) {
			is, compare = isDigit, compareNumbers
		}
		m, n := span(a[x:], is), span(b[y:], is)
		if result := compare(m, n); result != 0 {
			return result
		}
		x, y = x+len(m), y+len(n)
	}
}

func order(aIsGreater bool) int {
	if aIsGreater {
		return 1
	}
	return -1
}

// compareNumbers compares decimal numbers of any length; no number ranks below 0.
func compareNumbers(a, b string) int {
	if a == "" || b == "" {
		return strings.Compare(a, b)
	}
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return order(len(a) > len(b))
	}
	return strings.Compare(a, b)
}

// Latest is the channel of all versions.
const Latest = "latest"

var channel = regexp.MustCompile(`^(?:latest|\d[0-9A-Za-z.+]*(?:-\d+)?)$`)

// IsChannel reports whether a text is a channel: "latest", a branch such as 1.36, or one version such as 1.36.4 or 1.36.4-1.
func IsChannel(text string) bool { return len(text) <= 64 && channel.MatchString(text) }

// InChannel reports whether an image version belongs to a channel. A branch or an upstream version includes its revisions: 1.36.4 matches 1.36.4-1.
func InChannel(version, channel string) bool {
	return channel == Latest || version == channel || strings.HasPrefix(version, channel+".") || strings.HasPrefix(version, channel+"-")
}

// Minor returns the branch of a version: 1.36 of 1.36.4-1.
func Minor(version string) string {
	upstream, _, _ := strings.Cut(version, "-")
	parts := strings.SplitN(upstream, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

var release = regexp.MustCompile(`^\d{1,9}\.\d{1,9}\.\d{1,9}$`)

// IsRelease reports whether a text is a Flatcar release number such as 4593.2.5.
func IsRelease(text string) bool { return release.MatchString(text) }
