-- Fan-out goes round by app: the oldest row of the app whose turn it is.
CREATE INDEX fanout_app ON fanout (app, event);
