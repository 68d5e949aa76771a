package report

import (
	"bytes"
	"fmt"
	"html"
)

// Sizes of the plot in pixels.
const (
	panelWidth = 460
	labelWidth = 190
	barHeight  = 16
	barGap     = 4
	groupGap   = 34
	top        = 40
)

// panel is one half of the plot: a figure of all targets in all scenes.
type panel struct {
	title  string
	format string
	figure figure
	x      int
}

// plot draws bars of decisions per second and of CPU per 1,000 decisions for
// every closed-loop scene.
func (r *Report) plot() []byte {
	var scenes []*Scene
	height := top
	for i := range r.Scenes {
		if s := &r.Scenes[i]; s.Rate == 0 {
			scenes = append(scenes, s)
			height += groupGap + len(s.Targets)*(barHeight+barGap)
		}
	}
	height += barHeight
	var b bytes.Buffer
	width := labelWidth + 2*panelWidth
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	r.drawLabels(&b, scenes)
	for _, p := range []panel{
		{"decisions per second (more is better)", "%.0f", rate, labelWidth},
		{"server CPU seconds per 1,000 decisions (less is better)", "%.3f", cpu, labelWidth + panelWidth},
	} {
		p.draw(&b, scenes)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// rows calls each with the vertical place of every bar.
func rows(scenes []*Scene, group func(s *Scene, y int), bar func(t *Target, y int)) {
	y := top
	for _, s := range scenes {
		y += groupGap
		if group != nil {
			group(s, y-8)
		}
		for i := range s.Targets {
			bar(&s.Targets[i], y)
			y += barHeight + barGap
		}
	}
}

func (r *Report) drawLabels(b *bytes.Buffer, scenes []*Scene) {
	rows(scenes,
		func(s *Scene, y int) {
			fmt.Fprintf(b, `<text x="8" y="%d" font-weight="bold" fill="#222222">%s</text>`+"\n", y, html.EscapeString(s.title()))
		},
		func(t *Target, y int) {
			fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" fill="#222222">%s</text>`+"\n", labelWidth-8, y+12, html.EscapeString(label(t.Name, r.GOGC)))
		})
}

func (p *panel) draw(b *bytes.Buffer, scenes []*Scene) {
	most := 0.0
	rows(scenes, nil, func(t *Target, _ int) { most = max(most, t.median(p.figure)) })
	if most == 0 {
		return
	}
	fmt.Fprintf(b, `<text x="%d" y="24" font-weight="bold" fill="#222222">%s</text>`+"\n", p.x, p.title)
	rows(scenes, nil, func(t *Target, y int) {
		value := t.median(p.figure)
		width := value / most * (panelWidth - 80)
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", p.x, y, width, barHeight, colour(t.Name))
		fmt.Fprintf(b, `<text x="%.1f" y="%d" fill="#222222">`+p.format+`</text>`+"\n", float64(p.x)+width+5, y+12, value)
	})
}

func colour(name string) string {
	switch name {
	case "verdict":
		return "#1b7f5c"
	case "opa", "opa-gogc":
		return "#8aa4c8"
	default:
		return "#c79a6b"
	}
}
