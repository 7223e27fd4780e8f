package index

import (
	"fmt"
	"strings"

	"github.com/flatcar/extensions/packages/agent/internal/version"
)

// Query says which image a node wants of an extension.
type Query struct {
	// Release is the Flatcar release that the image is for; empty on other systems, which take portable images only.
	Release      string
	Architecture string
	Channel      string
	// Target is "portable" or "release": only such images; empty: portable images where a version has both.
	Target string
	// Systemd is the version of the node's systemd; 0: unknown, not compared.
	Systemd int
	// Refused has digests of images that failed on this node.
	Refused map[string]bool
	// AtLeast is the oldest acceptable version; empty: any.
	AtLeast string
}

// Choice is an image with its version.
type Choice struct {
	Version Version
	Image   Image
}

// Choose returns the newest image that satisfies a query. The error says why the best candidates do not.
func (e Extension) Choose(query Query) (Choice, error) {
	var reasons []string
	for _, one := range e.Versions {
		if !version.InChannel(one.Version, query.Channel) {
			continue
		}
		if reason := one.unfit(query); reason != "" {
			reasons = append(reasons, one.Version+" "+reason)
			continue
		}
		image, reason := one.imageFor(query)
		if reason == "" {
			return Choice{Version: one, Image: image}, nil
		}
		reasons = append(reasons, one.Version+" "+reason)
	}
	if len(reasons) == 0 {
		return Choice{}, fmt.Errorf("%s: no version is in channel %q", e.Name, query.Channel)
	}
	return Choice{}, fmt.Errorf("%s: no image fits: %s", e.Name, strings.Join(reasons[:min(3, len(reasons))], "; "))
}

// unfit says why a version is not acceptable, whatever its images are.
func (v Version) unfit(query Query) string {
	if v.Withdrawn != nil {
		return "is withdrawn: " + v.Withdrawn.Reason
	}
	if query.AtLeast != "" && version.Compare(v.Version, query.AtLeast) < 0 {
		return "is older than the installed " + query.AtLeast
	}
	needs := v.Needs[query.Architecture].Systemd
	if query.Systemd > 0 && needs != "" && version.Compare(fmt.Sprint(query.Systemd), needs) < 0 {
		return fmt.Sprintf("requires systemd %s, and this node has %d", needs, query.Systemd)
	}
	return ""
}

// imageFor returns the image of a version for a node, or why there is none.
func (v Version) imageFor(query Query) (Image, string) {
	var bound, portable *Image
	refused := false
	for i, image := range v.Images {
		if image.Architecture != query.Architecture {
			continue
		}
		if query.Refused[image.SHA256] {
			refused = refused || image.Target == Portable || image.Target == query.Release
			continue
		}
		switch image.Target {
		case Portable:
			portable = &v.Images[i]
		case query.Release:
			bound = &v.Images[i]
		}
	}
	order := []*Image{portable, bound}
	switch query.Target {
	case Portable:
		order = []*Image{portable}
	case "release":
		order = []*Image{bound}
	}
	for _, image := range order {
		if image != nil {
			return *image, ""
		}
	}
	if refused {
		return Image{}, "failed on this node"
	}
	if query.Release == "" {
		return Image{}, fmt.Sprintf("has no portable image for %s", query.Architecture)
	}
	return Image{}, fmt.Sprintf("has no image for Flatcar %s on %s", query.Release, query.Architecture)
}
