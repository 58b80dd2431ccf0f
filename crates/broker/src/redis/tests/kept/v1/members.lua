-- Who is there: what the first session of each user shows.
return finish(all_members())
