//go:build browser

package console

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
)

// picture writes a screenshot for docs/console.md into the directory that CONSOLE_GALLERY names, if it is set.
func (b *tab) picture(name string, width int64, theme string) {
	b.t.Helper()
	dir := os.Getenv("CONSOLE_GALLERY")
	if dir == "" {
		return
	}
	if width < 600 {
		name += "-phone"
	}
	if theme == "dark" {
		name += "-dark"
	}
	// No row is hovered over.
	call(b, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: input.DispatchMouseEventTypeMouseMoved})
	shot, err := png.Decode(bytes.NewReader(call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{}).Data))
	if err != nil {
		b.t.Fatal(err)
	}
	var small bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&small, fewColors(shot)); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "console-"+name+".png"), small.Bytes(), 0o644); err != nil {
		b.t.Error(err)
	}
}

// fewColors returns the picture in the colors that it has most of: a page has few, beside the edges of its letters.
func fewColors(shot image.Image) *image.Paletted {
	const most = 256
	bounds := shot.Bounds()
	pixels := make(map[color.RGBA]int)
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(shot.At(x, y)).(color.RGBA) }
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			pixels[at(x, y)]++
		}
	}
	colors := slices.SortedFunc(maps.Keys(pixels), func(a, b color.RGBA) int { return cmp.Compare(pixels[b], pixels[a]) })
	palette := make(color.Palette, 0, most)
	for _, one := range colors[:min(most, len(colors))] {
		palette = append(palette, one)
	}
	nearest := make(map[color.RGBA]uint8, len(colors))
	for _, one := range colors {
		nearest[one] = uint8(palette.Index(one))
	}
	few := image.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			few.SetColorIndex(x, y, nearest[at(x, y)])
		}
	}
	return few
}
