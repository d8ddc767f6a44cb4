package command

// Waiting is how many commands are in the queue, not counting those taken up.
func (s *Service) Waiting() int { return len(s.queue) }
