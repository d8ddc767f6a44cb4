package feed

// Live is how many streams the tailer serves.
func (f *Feed) Live() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.live)
}
