package cli

import (
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// progressOut returns where to show progress: standard error if it and the output are a terminal, else nothing.
func progressOut(cmd *cobra.Command) io.Writer {
	if isTerminal(cmd.OutOrStdout()) && isTerminal(cmd.ErrOrStderr()) {
		return cmd.ErrOrStderr()
	}
	return nil
}

// workBar returns a bar that disappears when it is finished; of an unknown total, which is -1, it shows only what is done. With a nil
// writer it shows nothing. Its methods return errors of the terminal, which must not stop the work.
func workBar(out io.Writer, what string, total int64, options ...progressbar.Option) *progressbar.ProgressBar {
	if out == nil {
		out = io.Discard
	}
	return progressbar.NewOptions64(total, append([]progressbar.Option{
		progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(what), progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(0),
	}, options...)...)
}

// watchBytes shows how many bytes are done of a total, -1 if it is unknown, until stop is called.
func watchBytes(out io.Writer, what string, total int64, done func() (int64, error)) (stop func()) {
	if out == nil {
		return func() {}
	}
	bar := workBar(out, what, total, progressbar.OptionShowBytes(true), progressbar.OptionShowCount())
	_ = bar.RenderBlank()
	ended := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if n, err := done(); err == nil {
				_ = bar.Set64(n)
			}
			select {
			case <-ended:
				_ = bar.Finish()
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		close(ended)
		watcher.Wait()
	}
}
