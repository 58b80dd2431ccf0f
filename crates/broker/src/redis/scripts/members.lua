-- Who is there. Answers members: what the first session of each user shows.
return finish('members', all_members())
