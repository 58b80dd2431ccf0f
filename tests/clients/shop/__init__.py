"""A Django app with one model, which tells of its changes through drf_model_pusher as that package's users write it."""
