//go:build browser

package console

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
)

// shared is the Chromium of this process, with an empty profile. The first test that needs it starts it; each test has tabs of
// its own (newTab).
var shared struct {
	once sync.Once
	ctx  context.Context
	err  error
	stop func()
}

// withBrowser stops the browser after the tests.
type withBrowser struct{ *testing.M }

func (w withBrowser) Run() int {
	code := w.M.Run()
	if shared.stop != nil {
		shared.stop()
	}
	return code
}

func chromium(t *testing.T) context.Context {
	t.Helper()
	path := os.Getenv("CHROMIUM")
	if path == "" {
		t.Skip("CHROMIUM is not set: there is no browser to test with (make test-console looks for one)")
	}
	shared.once.Do(func() {
		// On a busy machine Chromium sometimes ends while it starts, before it has seen anything of the console.
		for range 3 {
			if shared.ctx, shared.stop, shared.err = startChromium(path); shared.err == nil {
				return
			}
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.ctx
}

func startChromium(path string) (context.Context, func(), error) {
	home, err := os.MkdirTemp("", "passbook-chromium-")
	if err != nil {
		return nil, nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(filepath.Join(home, "profile")), chromedp.Env("HOME="+home, "TZ=UTC"),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.WindowSize(1440, 1000),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-crash-reporter", true),
		chromedp.Flag("host-resolver-rules", "MAP evil.test 127.0.0.1"), // another site, on this machine
	)
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeBrowser := chromedp.NewContext(allocator)
	stop := func() {
		_ = chromedp.Cancel(ctx) // waits for the browser's end
		closeBrowser()
		stopAllocator()
		_ = os.RemoveAll(home)
	}
	if err := chromedp.Do(ctx); err != nil { // the first use starts it
		stop()
		return nil, nil, fmt.Errorf("start Chromium: %w", err)
	}
	return ctx, stop, nil
}
