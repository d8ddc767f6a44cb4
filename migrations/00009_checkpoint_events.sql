-- The event at each checkpoint that a generation may go on from, which tells whether the log still is what it was.

-- +goose Up
-- That of position and that of projections.previous_position; null at 0.
alter table projection_replays add column last_event_id uuid;
alter table projections add column previous_event_id uuid;

-- +goose Down
alter table projections drop column previous_event_id;
alter table projection_replays drop column last_event_id;
